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
    if (!gone && document.querySelector(".mseenet-open-case")) event.preventDefault();
  });

  // A page that is closed cannot come back to its case: the server need not keep it.
  const markOfSession = () => document.querySelector(".mseenet-session")?.dataset.mark;
  const atServer = (path) => `${location.pathname.replace(/\/(laboratory|model|about)?$/, "")}${path}`;
  let gone = false;
  addEventListener("pagehide", (event) => {
    const mark = markOfSession();
    if (mark && !event.persisted) navigator.sendBeacon(atServer(`/_stcore/mseenet/closed/${mark}`));
  });

  // Streamlit connects again by itself. If the server no longer has the session, the page would
  // look alive, and be replaced by an empty one with the next click.
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...details) {
      super(...details);
      const mark = markOfSession(); // of what is shown, which a new session may replace
      const held = heldBySession();
      if (!mark || !String(details[0]).includes("/_stcore/stream")) return;
      this.addEventListener("open", async () => {
        const answer = await fetch(atServer(`/_stcore/mseenet/open/${mark}`)).catch(() => null);
        if (answer?.status === 410) lose(held);
      });
    }
  };

  // What is lost, and how to have it again.
  const LOST = {
    case: [
      "this case",
      "If you saved the case, add the saved file; if not, add the images again.",
    ],
    fields: ["the fields of your laboratory", "Hand the labelled fields over again."],
    report: [
      "the report on your laboratory, which was not downloaded",
      "For the same report hand the same fields over again.",
    ],
    profile: [
      "the site profile, which was not downloaded",
      "For the same profile hand the same fields over again, and make it anew.",
    ],
  };

  function heldBySession() {
    const held = document.querySelector(".mseenet-session")?.dataset.held.split(" ") ?? [];
    if (document.querySelector(".st-key-case")) held.push("case"); // since the page was drawn
    return Object.keys(LOST).filter((name) => held.includes(name));
  }

  function lose(held) {
    if (gone) return;
    gone = true;
    if (!held.length) return location.reload(); // nothing is lost
    const note = document.createElement("div");
    note.className = "mseenet-lost";
    note.setAttribute("role", "alert");
    const text = document.createElement("p");
    text.textContent =
      `The server no longer has ${held.map((name) => LOST[name][0]).join(" and ")}: it was started ` +
      "again, or the page was cut off for too long. What is below is only the last picture of the " +
      `page, and nothing on it works any more. Begin anew. ${held.map((name) => LOST[name][1]).join(" ")}`;
    const button = document.createElement("button");
    button.textContent = "Begin anew";
    button.addEventListener("click", () => location.reload());
    note.append(text, button);
    document.body.append(note);
    button.focus();
    const scrolls = ["PageUp", "PageDown", "Home", "End", "Tab"];
    const stop = (event) => {
      if (note.contains(event.target) || scrolls.includes(event.key)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    for (const type of ["click", "pointerdown", "mousedown", "keydown", "change", "drop", "paste"])
      addEventListener(type, stop, true);
  }

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
