"""Which device computes, set up so that several programs can share a GPU."""


def prepare_device() -> str:
    """Prepares Keras, lets TensorFlow take GPU memory as it needs it, and names the device.

    Returns:
        Such as "GPU (NVIDIA H200)" or "CPU".

    Raises:
        BackendError: Keras cannot be had on TensorFlow here.
    """
    from mseenet.inference.backend import prepare_keras

    prepare_keras()

    import tensorflow as tf

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
