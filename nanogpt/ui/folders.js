// Before the files of a folder are sent: leave out hidden ones, and keep the folders in each file's name, because Gradio
// passes on nothing else.
document.addEventListener("change", ({ target }) => {
  if (!target.webkitdirectory || !target.files.length) return;
  const kept = new DataTransfer();
  for (const file of target.files) {
    const path = file.webkitRelativePath;
    if (/(^|\/)\./.test(path)) continue;
    kept.items.add(new File([file], path.replaceAll("/", " ∕ "), { type: file.type, lastModified: file.lastModified }));
  }
  target.files = kept.files;
}, true);
