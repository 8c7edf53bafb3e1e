// Sends all files of one drop or choice as a single upload, a "bundle" (see mseenet/case/bundle.py).
//
// Streamlit's uploader still does the upload. Left alone it would send every file in a request
// of its own and compute the styles of the page anew for each: seconds for a hundred fields.
// What it refuses, for its size or its kind, would vanish without a word.

(() => {
  if (window.mseenetBundles) return;
  window.mseenetBundles = true;

  const { magic, suffixes, limit } = SETTINGS;
  const LARGEST = Math.min(limit, 64 * 2 ** 20); // of several files; progress is shown by bundle
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
    const bundles = [[]];
    let bytes = 0;
    // One file that cannot be read would spoil the upload of the others. To ask for all of them
    // at once takes half the time.
    const whole = await readable(files.map(({ file }) => file));
    const described = files.map(async (member) =>
      describe(member, whole || (await readable([member.file]))),
    );
    for (const member of await Promise.all(described)) {
      bytes += member.size;
      if (bytes > LARGEST && bundles.at(-1).length) {
        bundles.push([]);
        bytes = member.size;
      }
      bundles.at(-1).push(member);
    }
    const transfer = new DataTransfer();
    for (const members of bundles) transfer.items.add(pack(members));
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
  // image is sent from there.
  function describe({ path, file }, isReadable) {
    const name = path ?? file.name;
    const without = (left_out) => ({ name, size: 0, left_out, content: "" });
    if (path && !suffixes.some((suffix) => name.toLowerCase().endsWith(suffix)))
      return without("kind");
    if (file && file.size > limit - OVERHEAD) return without("size");
    if (!isReadable) return without("unreadable");
    return { name, size: file.size, left_out: null, content: file };
  }

  function pack(members) {
    const head = members.map(({ name, size, left_out }) => ({ name, size, left_out }));
    const parts = [magic, JSON.stringify(head), "\n", ...members.map(({ content }) => content)];
    return new File(parts, members.length > 1 ? `${members.length} files` : members[0].name);
  }
})();
