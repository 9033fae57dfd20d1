// Speaks to a security key for the two forms that need one. Nothing is sent anywhere but with the form itself.
"use strict";

(function () {
  function bytes(text) {
    const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(plain, (one) => one.charCodeAt(0));
  }

  function text(buffer) {
    const plain = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  function fill(form, values) {
    for (const [name, value] of Object.entries(values)) {
      form.elements.namedItem(name).value = value;
    }
  }

  function say(form, words) {
    form.querySelector("[data-status]").textContent = words;
  }

  async function approve(form) {
    const asked = form.dataset;
    const answer = await navigator.credentials.get({
      publicKey: {
        challenge: bytes(asked.challenge),
        rpId: asked.rpId,
        allowCredentials: asked.keys.split(" ").map((id) => ({ type: "public-key", id: bytes(id) })),
        userVerification: "required",
        timeout: 120000,
      },
    });
    fill(form, {
      credential_id: answer.id,
      authenticator_data: text(answer.response.authenticatorData),
      client_data: text(answer.response.clientDataJSON),
      signature: text(answer.response.signature),
    });
    form.submit();
  }

  async function register(form) {
    const asked = form.dataset;
    const name = form.elements.namedItem("person").value || "sealift";
    const made = await navigator.credentials.create({
      publicKey: {
        challenge: bytes(asked.challenge),
        rp: { id: asked.rpId, name: "Sealift" },
        user: { id: bytes(asked.user), name: name, displayName: name },
        pubKeyCredParams: asked.algorithms.split(" ").map((one) => ({ type: "public-key", alg: Number(one) })),
        authenticatorSelection: { userVerification: "required" },
        attestation: "none",
        timeout: 120000,
      },
    });
    fill(form, {
      credential_id: made.id,
      attestation: text(made.response.attestationObject),
      client_data: text(made.response.clientDataJSON),
    });
    say(form, "The security key is registered. It is enrolled with the form.");
  }

  function refused(form, error) {
    say(form, "The security key did not answer: " + error.message);
  }

  for (const form of document.querySelectorAll("form[data-security-key]")) {
    const button = form.querySelector("button[data-touch]");
    button.hidden = false;
    if (!window.PublicKeyCredential) {
      button.disabled = true;
      say(form, "This browser speaks to security keys only over TLS, or as localhost.");
      continue;
    }
    const act = form.dataset.securityKey === "get" ? approve : register;
    button.addEventListener("click", function (event) {
      event.preventDefault();
      say(form, "Touch the security key, and type its PIN where it asks.");
      act(form).catch((error) => refused(form, error));
    });
  }
})();
