// Shows the API's description by Swagger UI. What it needs comes from here; it asks nobody else.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const followColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followColours();
dark.addEventListener("change", followColours);

// The headers that every answer has are said once, in the introduction: a person who reads is not to meet them 300 times.
const EVERYWHERE = ["Cache-Control", "X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy",
  "Strict-Transport-Security", "X-Request-ID"];

function legible(description) {
  const answers = Object.values(description.components.responses);
  for (const path of Object.values(description.paths)) {
    for (const operation of Object.values(path)) {
      answers.push(...Object.values(operation.responses));
    }
  }
  for (const { headers } of answers) {
    for (const name of headers ? EVERYWHERE : []) {
      delete headers[name];
    }
  }
  return description;
}

async function show() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) {
    throw new Error(`openapi.json: ${answer.status}`);
  }
  const description = legible(await answer.json());
  document.title = `${description.info.title}: the API`;
  SwaggerUIBundle({
    spec: description,
    dom_id: "#api",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false, // a token is gone with the page
    queryConfigEnabled: false, // nobody's link decides what is shown here
    validatorUrl: null, // the description is sent to nobody
  });
}

show().catch((error) => {
  document.getElementById("api").textContent = `The description cannot be shown: ${error.message}`;
});
