// One or two pictures of a field that zoom and move together.

const LARGEST = 12;
const STEP = 1.5;
const CELL = 0.3; // of the frame's side, about, that a marked cell's surroundings fill
let outlined = true; // kept from field to field, as long as the page is open

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".mseenet-pictures");
  if (!data) return;
  const view = (root.view ??= new View(root));
  view.show(data);
}

class View {
  // scale, and where the field's upper left corner lies, in proportion to a frame's sides.
  scale = 1;
  left = 0;
  top = 0;
  pointers = new Map();

  constructor(root) {
    this.root = root;
    this.find = (name) => root.querySelector(`.${name}`);
    this.frames = [...root.querySelectorAll(".frame")];
    for (const frame of this.frames) {
      frame.addEventListener("wheel", (event) => this.wheel(event, frame), { passive: false });
      frame.addEventListener("pointerdown", (event) => this.down(event, frame));
      frame.addEventListener("pointermove", (event) => this.move(event, frame));
      for (const end of ["pointerup", "pointercancel", "pointerleave"])
        frame.addEventListener(end, (event) => this.up(event));
      frame.addEventListener("dblclick", () => this.reset());
    }
    this.find("nearer").onclick = () => this.zoom(STEP);
    this.find("farther").onclick = () => this.zoom(1 / STEP);
    this.find("whole").onclick = () => this.reset();
    this.find("outlined").onclick = () => this.outline(!outlined);
    this.find("frames").addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => fit(root)).observe(root.closest(".stMainBlockContainer") ?? root);
    addEventListener("resize", () => fit(root));
  }

  show(data) {
    const [rows, columns] = data.shape;
    this.root.style.setProperty("--shape", columns / rows);
    const [alone, covered] = this.frames;
    set(alone.querySelector("img"), data.picture, data.alt[0]);
    covered.hidden = this.find("scale").hidden = !data.heat;
    if (data.heat) {
      const [below, heat] = covered.querySelectorAll("img");
      set(below, data.picture, "");
      set(heat, data.heat, data.alt[1]);
      heat.style.opacity = data.opacity;
      this.find("scale-title").textContent = data.unit;
      this.find("scale-colors").style.background = `linear-gradient(to right, ${data.colors})`;
    }
    if (this.field !== data.field) this.reset();
    const asked = `${data.field} ${data.marked} ${data.asked}`;
    this.showCells(data.cells ?? [], data.crops ?? [], data.galleryTitle ?? "");
    if (this.field !== data.field) this.mark(null);
    if (data.marked != null && this.asked !== asked) this.mark(data.marked, true);
    [this.field, this.asked] = [data.field, asked];
  }

  // Cells are numbered by their place in the lists: lines as [x, y, ...] in proportion to the sides.
  showCells(cells, crops, title) {
    const key = JSON.stringify([cells, crops, title]);
    if (this.cellsKey === key) return;
    this.cellsKey = key;
    this.cells = cells;
    const name = "http://www.w3.org/2000/svg";
    for (const layer of this.root.querySelectorAll("svg.cells")) {
      layer.setAttribute("viewBox", "0 0 1 1");
      layer.setAttribute("preserveAspectRatio", "none");
      const paths = cells.flatMap((line, i) =>
        ["halo", ""].map((kind) => {
          const path = document.createElementNS(name, "path");
          const points = line.map((part, j) => `${j % 2 ? "," : " "}${part}`).join("");
          path.setAttribute("d", `M${points}Z`);
          path.setAttribute("class", kind);
          path.dataset.cell = i;
          return path;
        }),
      );
      layer.replaceChildren(...paths);
    }
    this.find("gallery").hidden = !crops.length;
    this.find("gallery-title").textContent = title;
    this.find("crops").setAttribute("aria-label", title);
    this.find("crops").replaceChildren(
      ...crops.map(({ picture, share, label }, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = label;
        button.setAttribute("aria-label", label);
        button.dataset.cell = i;
        const image = document.createElement("img");
        set(image, picture, "");
        button.append(image, share);
        button.onclick = () => this.mark(this.marked === i ? null : i, this.marked !== i);
        return button;
      }),
    );
    this.find("outlined").hidden = !cells.length;
    this.outline(outlined);
    this.mark(null);
  }

  outline(on) {
    outlined = on;
    this.root.classList.toggle("plain", !on);
    this.find("outlined").setAttribute("aria-pressed", on);
  }

  // Shows one cell, or none; `near` brings it into the middle.
  mark(cell, near = false) {
    this.marked = cell;
    for (const part of this.root.querySelectorAll("[data-cell]")) {
      const here = cell !== null && Number(part.dataset.cell) === cell;
      if (part.tagName === "BUTTON") part.setAttribute("aria-pressed", here);
      else part.classList.toggle("marked", here);
    }
    const line = cell === null ? null : this.cells[cell];
    if (!line || !near) return;
    const xs = line.filter((_, i) => i % 2 === 0);
    const ys = line.filter((_, i) => i % 2);
    const [left, right, top, bottom] = [
      Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys),
    ];
    const scale = Math.min(Math.max(CELL / Math.max(right - left, bottom - top), 1), LARGEST / 2);
    this.find("frames").scrollIntoView({ block: "nearest" });
    this.place(scale, 0.5 - (scale * (left + right)) / 2, 0.5 - (scale * (top + bottom)) / 2);
  }

  reset() {
    this.place(1, 0, 0);
  }

  // Changes the scale around a point of the frame, its middle unless told.
  zoom(factor, x = 0.5, y = 0.5) {
    const scale = Math.min(Math.max(this.scale * factor, 1), LARGEST);
    const change = scale / this.scale;
    this.place(scale, x - (x - this.left) * change, y - (y - this.top) * change);
  }

  place(scale, left, top) {
    const inside = (start) => Math.min(Math.max(start, 1 - scale), 0);
    [this.scale, this.left, this.top] = [scale, inside(left), inside(top)];
    for (const frame of this.frames) {
      frame.firstElementChild.style.transform =
        `translate(${100 * this.left}%, ${100 * this.top}%) scale(${scale})`;
      frame.classList.toggle("near", scale > 1);
    }
    this.find("farther").disabled = this.find("whole").disabled = scale === 1;
    this.find("nearer").disabled = scale === LARGEST;
  }

  wheel(event, frame) {
    // A whole field lets the page scroll on.
    if (event.deltaY > 0 && this.scale === 1) return;
    event.preventDefault();
    // Firefox counts in lines; pinching on a touchpad comes as a slow wheel with Ctrl.
    const turned = event.deltaY * (event.deltaMode ? 33 : 1) * (event.ctrlKey ? 4 : 1);
    this.zoom(Math.exp(Math.min(Math.max(-turned, -120), 120) / 300), ...within(event, frame));
  }

  down(event, frame) {
    if (event.button) return;
    frame.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, within(event, frame));
  }

  move(event, frame) {
    const now = within(event, frame);
    this.point(frame, now);
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    this.pointers.set(event.pointerId, now);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1e-3;
      this.zoom(apart(now) / apart(before), ...other);
    } else {
      this.place(this.scale, this.left + now[0] - before[0], this.top + now[1] - before[1]);
    }
  }

  up(event) {
    if (event.type !== "pointerleave") this.pointers.delete(event.pointerId);
    else this.point(null);
  }

  // Marks in the other picture what the pointer is on in one.
  point(frame, at) {
    for (const other of this.frames) {
      const mark = other.lastElementChild;
      mark.hidden = !frame || other === frame;
      if (!mark.hidden) [mark.style.left, mark.style.top] = at.map((part) => `${100 * part}%`);
    }
  }

  key(event) {
    const far = 0.1;
    const steps = {
      ArrowLeft: [far, 0],
      ArrowRight: [-far, 0],
      ArrowUp: [0, far],
      ArrowDown: [0, -far],
    };
    const step = steps[event.key];
    if (event.key === "+") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key === "0") this.reset();
    else if (step && this.scale > 1)
      this.place(this.scale, this.left + step[0], this.top + step[1]);
    else return;
    event.preventDefault();
  }
}

const SMALLEST = 230;
const LARGEST_HEIGHT = 640;

// As tall as the window lets the pictures be below what stands over them, where they stand beside
// the list; else as the style sheet says.
function fit(root) {
  const page = root.closest(".stMain");
  if (!page || !root.isConnected) return;
  const top = root.getBoundingClientRect().top + page.scrollTop - page.getBoundingClientRect().top;
  const line = document.querySelector(".mseenet-research")?.offsetHeight ?? 0;
  const room = page.clientHeight - top - line - 8;
  const height = Math.min(Math.max(room, SMALLEST), LARGEST_HEIGHT);
  if (matchMedia("(min-width: 1001px)").matches) root.style.setProperty("--height", `${height}px`);
  else root.style.removeProperty("--height");
}

function set(image, source, alt) {
  if (image.src !== source) image.src = source;
  image.alt = alt;
}

// Where an event is, in proportion to a frame's sides.
function within(event, frame) {
  const box = frame.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}
