// What the pages do better with a script. They do all of it without one, too.
"use strict";

// A link from a mail holds its code behind the #, where no server sees it. It goes into the form, and out of the address.
const token = document.getElementById("token");
const field = token && token.closest("[data-field]");
const takeCode = () => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    token.value = given;
    field.hidden = true;
    history.replaceState(null, "", location.pathname);
  }
};
if (token) {
  takeCode();
  window.addEventListener("hashchange", takeCode);
  // A code that came back with the form is good still, unless the page says otherwise.
  field.hidden = token.value !== "" && !field.classList.contains("wrong");
}

// A password can be looked at while it is typed (NIST SP 800-63B-4, section 3.1.1.2).
for (const password of document.querySelectorAll("input[type=password]")) {
  const words = document.body.dataset;
  const button = document.createElement("button");
  const show = (shown) => {
    password.type = shown ? "text" : "password";
    button.textContent = shown ? words.hide : words.show;
    button.setAttribute("aria-label", shown ? words.hidePassword : words.showPassword);
  };
  button.type = "button";
  button.className = "reveal";
  button.addEventListener("click", () => show(password.type === "password"));
  const box = document.createElement("div");
  box.className = "revealing";
  const focused = document.activeElement === password;
  password.replaceWith(box);
  box.append(password, button);
  if (focused) {
    password.focus();
  }
  show(false);
  // Browsers and password managers look for the type when a form is sent.
  password.form.addEventListener("submit", () => show(false));
}

// A form that is sent twice in haste is sent once. Later, or filled in anew, it can be sent again: a file for an answer leaves the
// page as it is, and so does somebody who stops waiting.
const HASTE = 5000;
for (const form of document.forms) {
  form.addEventListener("input", () => delete form.dataset.sent);
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, HASTE);
    if ("file" in form.dataset) {
      setTimeout(() => form.reset()); // it is under way by then, and no password stays on the screen
    }
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.forms) {
    delete form.dataset.sent;
  }
});
