// Drag and drop, and how much of a file is sent; without it the form is a plain one.
import { say } from "/static/app.js";

const form = document.getElementById("drop");
const zone = document.getElementById("zone");
const file = document.getElementById("file");
const sent = document.getElementById("sent");
const wrong = document.getElementById("wrong");
const most = Number(form.dataset.most);

form.classList.add("live");

/** Say why something was not sent; nothing takes the words away. */
function refuse(words) {
  wrong.textContent = words;
  wrong.hidden = !words;
}

/** Return whether the chosen file may be sent, and say so if not. */
function fits() {
  const chosen = file.files[0];
  const tooLarge = chosen && chosen.size > most;
  refuse(tooLarge ? `${chosen.name} has ${(chosen.size / 2 ** 20).toFixed(0)} MB, and at most ${most / 2 ** 20} MB may be sent.` : "");
  return !tooLarge;
}

file.addEventListener("change", fits);

for (const name of ["dragenter", "dragover"]) {
  zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("over"));
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault()); // beside the zone, too
zone.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  file.files = event.dataTransfer.files;
  if (fits()) form.requestSubmit();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!fits()) return;
  const button = form.querySelector("button");
  const request = new XMLHttpRequest(); // fetch does not tell how much is sent
  const failed = (words) => {
    button.disabled = false;
    sent.hidden = true;
    refuse(words);
  };
  request.open("POST", "/api/diagnoses");
  request.responseType = "json";
  request.upload.addEventListener("progress", (step) => {
    sent.value = step.total ? step.loaded / step.total : 0;
  });
  request.addEventListener("load", () => {
    if (request.status === 202) location.href = `/diagnose/${request.response.id}`;
    else failed(request.response?.error ?? `The dashboard has answered ${request.status}.`);
  });
  request.addEventListener("error", () => failed("The dashboard does not answer, or has refused the file while it was sent."));
  button.disabled = true;
  sent.hidden = false;
  refuse("");
  say("The file is being sent");
  request.send(new FormData(form));
});
