// Shows the API's description by Swagger UI. What it needs comes from here; it asks nobody else.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const followColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followColours();
dark.addEventListener("change", followColours);

// What every request may have and every answer has is said once, in the introduction: who reads is not to meet it 300 times.
const EVERYWHERE = ["Cache-Control", "X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy",
  "Strict-Transport-Security", "X-Request-ID"];

const ANY_REQUEST = ["RequestTimeout", "TargetTooLong", "ExpectationFailed", "HeadersTooLarge", "InternalError"];

function legible(description) {
  const answers = Object.values(description.components.responses);
  const [introduction] = description.info.description.split("| Problem |");
  description.info.description = `${introduction}Any request can also be refused with 408, 414, 417, 431 or 500, which are not \
shown below. [All problems](problems) are explained one by one.`;
  for (const path of Object.values(description.paths)) {
    for (const operation of Object.values(path)) {
      for (const [status, { $ref }] of Object.entries(operation.responses)) {
        if ($ref && ANY_REQUEST.includes($ref.split("/").pop())) {
          delete operation.responses[status];
        }
      }
      answers.push(...Object.values(operation.responses));
      operation.parameters = operation.parameters.filter(({ $ref }) => !$ref.endsWith("/XRequestId"));
    }
  }
  for (const parameter of Object.values(description.components.parameters)) {
    if (!parameter.required) {
      delete parameter.example; // with which the form would be filled, and the request sent
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
