// The screen fills the window; keyboard and pointer go to the machine.
import RFB from "./novnc/core/rfb.js";

function show(state, words) {
  document.body.dataset.state = state;
  document.getElementById("state").textContent = words;
}

const answer = await fetch("password", { cache: "no-store" });
const password = await answer.text();
const address = new URL("socket", location.href);
address.protocol = "ws:";
const rfb = new RFB(document.getElementById("screen"), address.href, { credentials: { password } });
rfb.scaleViewport = true;
rfb.focusOnClick = true;
rfb.addEventListener("connect", () => { show("connected", ""); rfb.focus(); });
rfb.addEventListener("securityfailure", () => show("refused", "the VNC password is wrong"));
rfb.addEventListener("disconnect", () => {
  if (document.body.dataset.state !== "refused") {
    show("ended", "the machine has ended, or the view has");
  }
});
