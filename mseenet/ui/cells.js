// Crops of a case's most decisive cells; a click tells the server which one.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".mseenet-cells");
  root.querySelector(".title").textContent = data.title;
  const crops = root.querySelector(".crops");
  crops.setAttribute("aria-label", data.title);
  crops.replaceChildren(
    ...data.crops.map(({ id, picture, share, label }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = label;
      button.setAttribute("aria-label", label);
      const image = document.createElement("img");
      image.src = picture;
      image.alt = "";
      button.append(image, share);
      button.onclick = () => setTriggerValue("chosen", id);
      return button;
    }),
  );
}
