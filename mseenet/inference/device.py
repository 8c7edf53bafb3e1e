"""Which device computes, set up so that several programs can share a GPU."""


def prepare_device() -> str:
    """Prepares Keras, has a GPU compute as a processor does and take memory as needed; names it.

    Returns:
        Such as "GPU (NVIDIA H200)" or "CPU".

    Raises:
        BackendError: Keras cannot be had on TensorFlow here.
    """
    from mseenet.inference.backend import prepare_keras

    prepare_keras()

    import tensorflow as tf

    # With TensorFloat-32 a GPU rounds to ten bits before it multiplies, so that answers near a
    # threshold would be other ones than those that were measured.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPU is in use already, with growth as it was set then
            break
    if not gpus:
        return "CPU"
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"GPU ({details.get('device_name', gpus[0].name)})"
