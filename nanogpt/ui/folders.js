// Before the files of a folder are sent: leave out hidden ones, and keep the folders in each file's name, because Gradio
// passes on nothing else. If no file is left, Gradio does nothing at all; a hidden button has the server say why.
if (!window.__folders) {
  window.__folders = ({ target }) => {
    if (!target.webkitdirectory || !target.files.length) return;
    const kept = new DataTransfer();
    for (const file of target.files) {
      const path = file.webkitRelativePath;
      if (/(^|\/)\./.test(path)) continue;
      kept.items.add(new File([file], path.replaceAll("/", " ∕ "), { type: file.type, lastModified: file.lastModified }));
    }
    target.files = kept.files;
    if (!kept.files.length) document.getElementById("corpus-no-files")?.click();
  };
  document.addEventListener("change", window.__folders, true);
}
