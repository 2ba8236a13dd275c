// Copy buttons, questions before what cannot be undone, uploads with a bar.

export function readyCopying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    const text = code.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      document.getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

export function readyConfirming() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-confirm]");
    if (button && !window.confirm(button.dataset.confirm)) event.preventDefault();
  });
}

export function readyUploads() {
  document.querySelectorAll("form[data-upload]").forEach((form) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  });
}

function send(form) {
  const bar = form.querySelector("[data-upload-bar]");
  const button = form.querySelector("button");
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  bar.hidden = false;
  button.disabled = true;
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) bar.value = event.loaded / event.total;
  });
  request.addEventListener("load", () => {
    // Done: the browser was led to the batch's page. Refused: the answer is the page that says why.
    const there = new URL(request.responseURL);
    if (request.status < 400) {
      location.assign(there.pathname);
      return;
    }
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    refuse(form, page.querySelector("[role=alert]")?.textContent ?? "The upload failed.");
  });
  request.addEventListener("error", () => refuse(form, "The connection broke: try again."));
  request.send(new FormData(form));
}

function refuse(form, text) {
  let note = form.querySelector("[role=alert]");
  if (!note) {
    note = document.createElement("p");
    note.className = "note bad";
    note.setAttribute("role", "alert");
    form.prepend(note);
  }
  note.textContent = text.trim();
  form.querySelector("[data-upload-bar]").hidden = true;
  form.querySelector("button").disabled = false;
}
