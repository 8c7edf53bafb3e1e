// Sends all files of one drop or choice as a single upload, a "bundle" (see mseenet/ui/bundle.py).
//
// Streamlit's uploader still does the upload. Left alone it would send every file in a request
// of its own and compute the styles of the page anew for each: seconds for a hundred fields.
// What it refuses, for its size or its kind, would vanish without a word.

(() => {
  if (window.mseenetBundles) return;
  window.mseenetBundles = true;

  const { magic, suffixes, starts, bmpHeaders, limit, partLimit, caseLimit } = SETTINGS;
  // Of several files, in bytes; progress is shown by bundle. A proxy may allow less.
  let largest = Math.min(limit, 64 * 2 ** 20);
  const sent = []; // bundles and their members, until they have arrived
  const OVERHEAD = 4096; // more than the head of a bundle of one file

  addEventListener(
    "change",
    (event) => {
      const input = event.target;
      if (event.bundled || !input.matches("[data-testid=stFileUploaderDropzoneInput]")) return;
      if (!input.files.length) return;
      event.stopImmediatePropagation();
      const files = [...input.files];
      send(input, files.map((file) => ({ path: file.webkitRelativePath || null, file })));
    },
    true,
  );

  addEventListener(
    "drop",
    async (event) => {
      const zone = event.target.closest("[data-testid=stFileUploaderDropzone]");
      if (!zone || !event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      // The zone stays highlighted until it hears that the pointer has left.
      event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true }));
      // The browser forgets what was dropped as soon as anything is awaited.
      const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
      const dropped = items.map((item) => [item.webkitGetAsEntry(), item.getAsFile()]);
      const found = dropped.map(([entry, file]) =>
        entry?.isDirectory ? filesIn(entry) : [{ path: null, file }],
      );
      send(zone.querySelector("input"), (await Promise.all(found)).flat());
    },
    true,
  );

  // All files in a dropped folder and in its folders; `file` is null where one cannot be read.
  async function filesIn(folder) {
    const reader = folder.createReader();
    const entries = [];
    try {
      let some;
      do {
        some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        entries.push(...some);
      } while (some.length);
    } catch {
      return [{ path: folder.fullPath.slice(1), file: null }];
    }
    const found = entries.map(async (entry) => {
      if (entry.isDirectory) return filesIn(entry);
      const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
      return [{ path: entry.fullPath.slice(1), file }];
    });
    return (await Promise.all(found)).flat();
  }

  // Bundles the files and hands them to the uploader of `input` as if they were chosen there.
  async function send(input, files) {
    if (!files.length) return;
    // One file that cannot be read would spoil the upload of the others. To ask for all of them
    // at once takes half the time.
    const whole = await readable(files.map(({ file }) => file));
    const described = files.map(async (member) =>
      describe(member, whole || (await readable([member.file]))),
    );
    let bytes = 0; // that the case cannot hold is not sent; the server counts again
    const members = (await Promise.all(described)).map((member) => {
      if (bytes + member.size > caseLimit) return without(member.name, "room");
      bytes += member.size;
      return member;
    });
    hand(input, bundled(members));
  }

  // Members in as few bundles as may be, each of at most `largest` bytes or a single file.
  function bundled(members) {
    const bundles = [[]];
    let bytes = 0;
    for (const member of members) {
      bytes += member.size;
      if (bytes > largest && bundles.at(-1).length) {
        bundles.push([]);
        bytes = member.size;
      }
      bundles.at(-1).push(member);
    }
    return bundles.map(pack);
  }

  // Hands bundles to an uploader as if they were chosen there.
  function hand(input, bundles) {
    const transfer = new DataTransfer();
    for (const bundle of bundles) transfer.items.add(bundle);
    input.files = transfer.files;
    const event = new Event("change", { bubbles: true });
    event.bundled = true;
    input.dispatchEvent(event);
  }

  // Whether all of the files can be read, null being one that cannot.
  async function readable(files) {
    try {
      await new Blob(files.map((file) => file.slice(0, 1))).arrayBuffer();
      return true;
    } catch {
      return false;
    }
  }

  // A file as a member of a bundle. In a folder there may be anything: only what is named as an
  // image, or begins as one, is sent from there.
  async function describe({ path, file }, isReadable) {
    const name = path ?? file.name;
    const named = suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
    if (path && !named && !(file && isReadable && (await beginsAsImage(file))))
      return without(name, "kind");
    const most = /\.zip$/i.test(name) ? partLimit - OVERHEAD : limit; // it may be a saved case
    if (file && file.size > most) return without(name, "size");
    if (!isReadable) return without(name, "unreadable");
    return { name, size: file.size, left_out: null, content: file };
  }

  // All that `identify` in mseenet/imaging/formats.py knows; the server looks again.
  async function beginsAsImage(file) {
    const head = new Uint8Array(await file.slice(0, 64).arrayBuffer());
    const text = (from, to) => String.fromCharCode(...head.slice(from, to));
    return (
      starts.some((start) => start.every((byte, i) => head[i] === byte)) ||
      (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") ||
      (text(0, 2) === "BM" && bmpHeaders.includes(head[14]) && !head[15] && !head[16]) ||
      (text(4, 8) === "ftyp" && /^(.{4})*he[iv]/s.test(text(8, 64))) // HEIC
    );
  }

  // A file of which the server only hears why it is not sent.
  function without(name, left_out) {
    return { name, size: 0, left_out, content: "" };
  }

  function pack(members) {
    const head = members.map(({ name, size, left_out }) => ({ name, size, left_out }));
    const parts = [magic, JSON.stringify(head), "\n", ...members.map(({ content }) => content)];
    const name = members.length > 1 ? `${members.length} files` : members[0].name;
    const bundle = new File(parts, name);
    sent.push({ bundle, members });
    return bundle;
  }

  // A proxy that refuses a request for its size answers 413. Then the same request is sent again
  // with the first of the files alone, before the uploader hears of it, and the uploader is handed
  // the others in smaller bundles. A single file is sent as a note that the proxy refuses it.
  const { open, setRequestHeader, send: sendRequest } = XMLHttpRequest.prototype;
  const requests = new WeakMap();

  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    if (method === "PUT" && String(url).includes("/upload_file/")) {
      // Heard before the uploader's own listeners, which are added after `open`.
      if (!requests.has(this)) this.addEventListener("loadend", retry);
      requests.set(this, { target: [method, url, ...rest], headers: [] });
    }
    return open.call(this, method, url, ...rest);
  };

  XMLHttpRequest.prototype.setRequestHeader = function (...header) {
    requests.get(this)?.headers.push(header);
    return setRequestHeader.apply(this, header);
  };

  XMLHttpRequest.prototype.send = function (body) {
    const request = requests.get(this);
    if (request) request.body = body;
    return sendRequest.call(this, body);
  };

  function retry(event) {
    const request = requests.get(this);
    if (!(request.body instanceof FormData)) return;
    const [[field, file]] = request.body.entries();
    // The form holds a copy of the bundle.
    const place = sent.findIndex((s) => s.bundle.name === file.name && s.bundle.size === file.size);
    const [known] = place < 0 ? [] : sent.splice(place, 1);
    if (this.status !== 413 && this.status !== 507) return;
    const members = known?.members ?? [{ name: file.name, size: file.size, left_out: null }];
    const notes = members.every((member) => member.left_out);
    if (notes && (members.length === 1 || this.status === 507)) return; // even a note is refused
    event.stopImmediatePropagation();
    if (this.status === 507) {
      // The server says why it has no room for any of them; it takes a note of each.
      const why = this.responseText === "full" ? "full" : "room";
      return again(this, request, pack(members.map(({ name }) => without(name, why))), field);
    }
    largest = Math.min(largest, Math.max(file.size / 4, 2 ** 16));
    const [first, ...others] = members.length > 1 ? split(members) : [noteOf(members[0])];
    const uploader = document.querySelector("[data-testid=stFileUploaderDropzoneInput]");
    if (others.length && uploader) hand(uploader, others);
    again(this, request, first, field);
  }

  // Sends a refused request again, with another file.
  function again(xhr, request, file, field) {
    const body = new FormData();
    body.append(field, file, file.name);
    open.apply(xhr, request.target);
    requests.set(xhr, { ...request, body });
    for (const header of request.headers) setRequestHeader.apply(xhr, header);
    sendRequest.call(xhr, body);
  }

  // Fewer files in each: by size, and by count where all of them together are small.
  function split(members) {
    const bundles = bundled(members);
    if (bundles.length > 1) return bundles;
    const half = Math.ceil(members.length / 2);
    return [pack(members.slice(0, half)), pack(members.slice(half))];
  }

  function noteOf({ name }) {
    return pack([without(name, "proxy")]);
  }
})();
