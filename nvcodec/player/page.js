"use strict";

const find = (id) => document.getElementById(id);
const canvas = find("picture");
const scrubber = find("scrubber");
const brush = canvas.getContext("2d");
const POLL_MS = 500;

let video = null;
let psnr = [];
let playing = false;
let wanted = 0; // the frame asked for last; older answers are dropped

function say(problem) {
  find("problem").hidden = !problem;
  find("problem").textContent = problem;
}

async function getJson(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function load(index, kind) {
  const image = new Image();
  image.src = `frame/${index}.${kind}`;
  await image.decode();
  return image;
}

function place(index) {
  scrubber.value = index;
  const quality = index < psnr.length ? `, ${psnr[index].toFixed(2)} dB` : "";
  const time = video.times_s[index].toFixed(3);
  find("place").textContent = `frame ${index} of ${video.frames}, ${time} s${quality}`;
  const x = (1000 * (index + 0.5)) / video.frames;
  find("mark").setAttribute("x1", x);
  find("mark").setAttribute("x2", x);
}

function draw(image, index, kind) {
  brush.drawImage(image, 0, 0);
  canvas.dataset.frame = index;
  canvas.dataset.kind = kind;
  place(index);
}

// Show one frame exactly. While one is drawn, only the latest wish is kept.
let busy = false;
async function show(index) {
  wanted = index;
  place(index);
  if (busy) return;
  busy = true;
  try {
    let shown = -1;
    while (shown !== wanted && !playing) {
      shown = wanted;
      const image = await load(shown, "png");
      if (!playing) draw(image, shown, "png");
    }
    say("");
  } catch {
    say(`Frame ${wanted} cannot be loaded; is the server still there?`);
  } finally {
    busy = false;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function setPlaying(on) {
  playing = on;
  find("play").textContent = on ? "Pause" : "Play";
  find("play").setAttribute("aria-pressed", on);
}

// The clock decides which frame is due; what comes too late is skipped.
async function play() {
  let index = wanted >= video.frames - 1 ? 0 : wanted;
  setPlaying(true);
  const began = performance.now() - 1000 * video.times_s[index];
  try {
    let next = load(index, "jpg");
    while (playing) {
      const image = await next;
      const early = 1000 * video.times_s[index] - (performance.now() - began);
      if (early > 0) await pause(early);
      if (!playing) break;
      draw(image, index, "jpg");
      wanted = index;
      const now = (performance.now() - began) / 1000;
      index += 1;
      while (index < video.frames - 1 && video.times_s[index + 1] <= now) index += 1;
      if (index >= video.frames) break;
      next = load(index, "jpg");
    }
  } catch {
    say(`Frame ${index} cannot be loaded; is the server still there?`);
  }
  setPlaying(false);
  show(wanted);
}

function toggle() {
  if (playing) setPlaying(false);
  else play();
}

function seek(index) {
  setPlaying(false);
  show(Math.min(video.frames - 1, Math.max(0, Math.round(index))));
}

function row(body, name, bytes, most, words) {
  const line = body.insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  line.append(head);
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.style.width = `${(100 * bytes) / most}%`;
  line.insertCell().append(bar);
  line.insertCell().textContent = words;
}

function showBits() {
  const bytes = (n) => `${Math.round(n).toLocaleString("en")} bytes`;
  const parts = Object.entries(video.parts).filter(([, n]) => n > 0);
  const most = Math.max(...parts.map(([, n]) => n));
  for (const [name, n] of parts) {
    row(find("parts").tBodies[0], name.replaceAll("_", " "), n, most, bytes(n));
  }
  const largest = Math.max(1, ...video.tensors.map((tensor) => tensor.bytes));
  for (const t of video.tensors) {
    const name = `${t.name} ${t.shape.join("x")}`;
    const words = `${bytes(t.bytes)}, ${t.bits_per_weight.toFixed(2)} bit/weight`;
    row(find("tensors").tBodies[0], name, t.bytes, largest, words);
  }
}

function showQuality(state) {
  psnr = state.psnr_db;
  const low = Math.min(...psnr);
  const high = Math.max(...psnr);
  const y = (value) => 190 - (180 * (value - low)) / Math.max(high - low, 1e-6);
  const points = psnr.map((value, i) => `${(1000 * (i + 0.5)) / video.frames},${y(value)}`);
  find("curve").setAttribute("points", points.join(" "));
  const mean = psnr.reduce((sum, value) => sum + value, 0) / psnr.length;
  let words = "measuring";
  if (psnr.length) {
    words = `${mean.toFixed(2)} dB on average, ${low.toFixed(2)} to ${high.toFixed(2)} dB`;
    words += state.done ? "" : `, ${psnr.length} of ${video.frames} frames measured`;
  }
  find("quality-words").textContent = state.error || `RGB PSNR: ${words}`;
  if (!playing) place(wanted);
}

async function watchQuality() {
  find("quality").hidden = false;
  for (;;) {
    const state = await getJson("psnr.json");
    showQuality(state);
    if (state.done) return;
    await pause(POLL_MS);
  }
}

async function start() {
  video = await getJson("video.json");
  document.title = `${video.file} - nvcodec`;
  find("name").textContent = video.file;
  const silent = video.tracks ? "; sound and subtitles are not played here" : "";
  find("facts").textContent =
    `${video.frames} frames of ${video.width}x${video.height}, ` +
    `${video.frame_rate.toFixed(3)} frames/s, ${video.bytes.toLocaleString("en")} bytes, ` +
    `${video.bpp.toFixed(4)} bpp, ${video.arch}, ` +
    `${video.parameters.toLocaleString("en")} parameters${silent}`;
  canvas.width = video.width;
  canvas.height = video.height;
  canvas.style.aspectRatio = `${video.shown_size[0]} / ${video.shown_size[1]}`;
  scrubber.max = video.frames - 1;
  showBits();
  find("play").addEventListener("click", toggle);
  scrubber.addEventListener("input", () => seek(Number(scrubber.value)));
  find("chart").addEventListener("click", (event) => {
    const box = find("chart").getBoundingClientRect();
    seek((video.frames * (event.clientX - box.left)) / box.width - 0.5);
  });
  show(0);
  if (video.compared) await watchQuality();
}

start().catch((error) => say(error.message));
