// What the page does in the browser beside showing results.

(() => {
  if (window.mseenetPage) return;
  window.mseenetPage = true;

  // After the mouse has moved a slider or flipped a switch, N and P would go to it.
  document.addEventListener("pointerup", (event) => {
    if (event.target.closest?.("[data-testid=stSlider], [data-testid=stCheckbox]"))
      setTimeout(() => document.activeElement?.blur(), 0);
  });

  // Enter keeps a comment, label or name; what is pressed next is meant for the page.
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.closest?.(".st-key-verdict, .st-key-case-bar"))
      setTimeout(() => event.target.blur(), 0);
  });

  // To leave the page forgets the case: the browser asks first while one is open.
  addEventListener("beforeunload", (event) => {
    if (document.querySelector(".mseenet-open-case")) event.preventDefault();
  });

  // Streamlit asks the camera for no more pixels than its picture has on the page.
  const devices = navigator.mediaDevices; // only on localhost and behind TLS
  if (devices?.getUserMedia) {
    const ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = (wanted) => {
      if (!wanted?.video) return ask(wanted);
      const size = { width: { ideal: 4096 }, height: { ideal: 3072 } };
      return ask({ ...wanted, video: { ...wanted.video, ...size } });
    };
  }

  // On phones it would also make the photo as small as that.
  const onCamera = (event) => {
    if (!event.target.closest?.("[data-testid=stCameraInputButton]")) return;
    const video = event.target.closest("[data-testid=stCameraInput]")?.querySelector("video");
    if (video?.videoWidth)
      Object.defineProperty(video, "clientWidth", {
        configurable: true,
        get: () => video.videoWidth,
      });
  };
  addEventListener("click", onCamera, true);
})();
