"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Curves: show, hide, stress.

function eachSeries(codec, change) {
  all(`.chart .series[data-codec="${codec}"]`).forEach(change);
}

for (const button of all(".legend button")) {
  const codec = button.dataset.codec;
  const stress = (on) => () => {
    document.body.classList.toggle("faint", on && button.getAttribute("aria-pressed") === "true");
    eachSeries(codec, (series) => series.classList.toggle("on", on));
  };
  button.addEventListener("pointerenter", stress(true));
  button.addEventListener("pointerleave", stress(false));
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    for (const same of all(`.legend button[data-codec="${codec}"]`)) {
      same.setAttribute("aria-pressed", shown);
    }
    eachSeries(codec, (series) => series.classList.toggle("off", !shown));
    stress(false)();
  });
}

for (const input of all("input[name=axis]")) {
  input.addEventListener("change", () => {
    document.getElementById("rd").dataset.axis = input.value;
  });
}

// Values under the pointer.

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const left = Math.max(8, Math.min(room, x + 14));
  const above = y - tip.offsetHeight - 14;
  tip.style.transform = `translate(${left + scrollX}px, ${(above > 8 ? above : y + 18) + scrollY}px)`;
}

const hideTip = () => {
  tip.hidden = true;
};

for (const marker of all(".chart .marker")) {
  // The title remains for readers without a script; with one it would appear a second time.
  const title = marker.querySelector("title");
  const text = title.textContent;
  title.remove();
  const show = (event) => showTip(text, event.clientX, event.clientY);
  marker.addEventListener("pointerenter", show);
  marker.addEventListener("pointerdown", show);
  marker.addEventListener("pointerleave", hideTip);
}

for (const chart of all(".chart.by-frame")) {
  const { low, high, left, width } = Object.fromEntries(
    Object.entries(chart.dataset).map(([name, value]) => [name, Number(value)]),
  );
  const curves = all(".series", chart).map((series) => ({
    series,
    first: Number(series.dataset.first),
    values: series.dataset.values.split(","),
  }));
  const frames = Math.max(...curves.map(({ first, values }) => first + values.length));
  const box = chart.viewBox.baseVal;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  chart.append(cursor);
  const show = (event) => {
    const across = chart.getBoundingClientRect();
    const at = ((event.clientX - across.left) / across.width) * box.width;
    const value = low + ((at - left) / width) * (high - low);
    const frame = Math.max(0, Math.min(frames - 1, Math.round(value)));
    const x = left + ((frame - low) / (high - low)) * width;
    cursor.setAttribute("d", `M${x} 10V${box.height - 40}`);
    const lines = curves
      .filter(({ series }) => !series.classList.contains("off"))
      .map(({ series, first, values }) => [series.dataset.name, values[frame - first]])
      .filter(([, decibels]) => decibels !== undefined)
      .sort((a, b) => b[1] - a[1])
      .map(([name, decibels]) => `${decibels} dB  ${name}`);
    showTip([`frame ${frame}`, ...lines].join("\n"), event.clientX, event.clientY);
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", () => {
    cursor.removeAttribute("d");
    hideTip();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
document.addEventListener("scroll", hideTip, { passive: true });

// Side by side.

function compare(viewer) {
  const find = (selector) => viewer.querySelector(selector);
  const stage = find(".stage");
  const slider = find("input[type=range]");
  const flicker = find("[data-flicker]");
  const sides = { left: find("select[name=left]"), right: find("select[name=right]") };
  const captions = { left: find("[data-caption=left]"), right: find("[data-caption=right]") };
  const zoom = find("select[name=zoom]");
  // Without a script the pictures lie side by side in a sheet; each is in the page only once.
  const sheet = viewer.parentElement.querySelector(".sheet");
  const images = all("img", sheet);
  stage.append(...images);
  sheet.remove();
  let timer = 0;

  const rate = () => find("input[name=rate]:checked").value;
  const imageOf = (codec) =>
    images.find(
      ({ dataset: { codec: own, rates } }) =>
        own === codec && (rates === "" || rates.split(" ").includes(rate())),
    );

  // A codec without a point near this rate cannot be chosen.
  function offer() {
    for (const select of Object.values(sides)) {
      for (const option of select.options) option.disabled = !imageOf(option.value);
      if (!imageOf(select.value)) {
        select.value = [...select.options].find((option) => !option.disabled).value;
      }
    }
  }

  function show() {
    for (const image of images) image.classList.remove("left", "right");
    const [left, right] = [imageOf(sides.left.value), imageOf(sides.right.value)];
    left.classList.add("left");
    right.classList.add("right");
    captions.left.textContent = left.alt;
    captions.right.textContent = right.alt + difference(left.dataset.bpp, right.dataset.bpp);
  }

  function difference(left, right) {
    if (!left || !right) return "";
    const percent = Math.round(100 * (right / left - 1));
    if (percent === 0) return ", the same rate";
    return `, ${Math.abs(percent)} % ${percent > 0 ? "more" : "fewer"} bits than the left picture`;
  }

  function move(percent) {
    stage.style.setProperty("--at", `${percent}%`);
    slider.value = percent;
    slider.setAttribute("aria-valuetext", `left picture on ${Math.round(percent)} % of the width`);
  }

  function reveal(side) {
    stage.dataset.shown = side;
    for (const [name, caption] of Object.entries(captions)) {
      caption.classList.toggle("shown", name === side);
    }
  }

  function setFlicker(on) {
    clearInterval(timer);
    stage.classList.toggle("flicker", on);
    flicker.setAttribute("aria-pressed", on);
    slider.disabled = on;
    reveal(on ? "left" : "");
    if (on) {
      timer = setInterval(() => reveal(stage.dataset.shown === "left" ? "right" : "left"), 600);
    }
  }

  function resize() {
    const scale = Number(zoom.value);
    stage.classList.toggle("zoomed", scale > 0);
    stage.style.width = scale ? `${images[0].naturalWidth * scale}px` : "100%";
  }

  function drag(event) {
    if (stage.classList.contains("flicker")) return;
    const across = stage.getBoundingClientRect();
    move(Math.max(0, Math.min(100, (100 * (event.clientX - across.left)) / across.width)));
  }

  stage.addEventListener("pointerdown", (event) => {
    // A finger on a picture larger than its frame moves the picture.
    if (event.pointerType === "touch" && stage.classList.contains("zoomed")) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) drag(event);
  });
  slider.addEventListener("input", () => move(Number(slider.value)));
  for (const select of Object.values(sides)) select.addEventListener("change", show);
  for (const input of all("input[name=rate]", viewer)) {
    input.addEventListener("change", () => {
      offer();
      show();
    });
  }
  zoom.addEventListener("change", resize);
  flicker.addEventListener("click", () => {
    setFlicker(flicker.getAttribute("aria-pressed") !== "true");
  });

  offer();
  show();
  move(50);
  setFlicker(false);
  viewer.hidden = false;
}

all(".viewer").forEach(compare);
