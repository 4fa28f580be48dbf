// Turning surfaces: every <figure class="surface"> holds a still picture, a canvas and a mesh (see mesh.py).
// One WebGL context draws them all; where there is none, or in print, the still pictures stay.
"use strict";
(() => {
  const still = [0.80, 0.83, 0.86], moving = [0.84, 0.37, 0.0];
  const vertexSource = `#version 300 es
    in vec3 position; in vec3 normal; in float value;
    uniform mat3 view; uniform vec3 centre; uniform float reach;
    out vec3 n; out float v; out float depth;
    void main() {
      vec3 p = view * (position - centre) / reach;
      n = view * normal; v = value; depth = p.z;
      gl_Position = vec4(p.xy, -0.5 * p.z, 1.0);
    }`;
  const fragmentSource = `#version 300 es
    precision highp float;
    in vec3 n; in float v; in float depth; out vec4 colour;
    uniform vec3 still; uniform vec3 moving;
    void main() {
      vec3 m = normalize(n); if (m.z < 0.0) m = -m;
      vec3 light = normalize(vec3(-0.45, 0.55, 0.70));
      float lambert = max(dot(m, light), 0.0);
      float shine = 0.12 * pow(max(dot(m, normalize(light + vec3(0.0, 0.0, 1.0))), 0.0), 24.0);
      float fog = 0.82 + 0.18 * clamp(depth + 0.5, 0.0, 1.0);
      colour = vec4(mix(still, moving, v) * (0.42 + 0.68 * lambert) * fog + shine, 1.0);
    }`;

  const stage = document.createElement("canvas");
  const gl = stage.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: false });
  const figures = [...document.querySelectorAll("figure.surface")];
  if (!gl || !figures.length) return;
  const program = link();
  const place = (name) => gl.getUniformLocation(program, name);
  const size = 2 * 300;
  stage.width = stage.height = size;

  function link() {
    const made = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertexSource], [gl.FRAGMENT_SHADER, fragmentSource]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    return made;
  }

  function load(figure) {
    const mesh = figure.querySelector("script.mesh");
    const count = +mesh.dataset.vertices, faces = +mesh.dataset.faces;
    const bytes = Uint8Array.from(atob(mesh.textContent.trim()), (c) => c.charCodeAt(0));
    const positions = Float32Array.from(new Uint16Array(bytes.buffer, 0, 3 * count), (p) => p / 65535);
    const triangles = new Uint16Array(bytes.buffer, 6 * count, 3 * faces);
    const values = Float32Array.from(bytes.subarray(6 * count + 6 * faces), (v) => v / 255);
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    for (const [name, width, data] of [["position", 3, positions], ["normal", 3, normals(positions, triangles)],
      ["value", 1, values]]) {
      const where = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(where);
      gl.vertexAttribPointer(where, width, gl.FLOAT, false, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    const canvas = figure.querySelector("canvas");
    canvas.width = canvas.height = size;
    figure.classList.add("live");
    return { array, length: triangles.length, context: canvas.getContext("2d"), canvas };
  }

  function normals(p, t) {
    const n = new Float32Array(p.length);
    for (let i = 0; i < t.length; i += 3) {
      const [a, b, c] = [3 * t[i], 3 * t[i + 1], 3 * t[i + 2]];
      const u = [p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]];
      const w = [p[c] - p[a], p[c + 1] - p[a + 1], p[c + 2] - p[a + 2]];
      const cross = [u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]];
      for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) n[corner + k] += cross[k];
    }
    return n;
  }

  const camera = JSON.parse(document.getElementById("camera").textContent);
  const seen = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !entry.target.loaded) entry.target.loaded = load(entry.target);
      if (entry.isIntersecting) seen.set(entry.target, entry.target.loaded);
      else seen.delete(entry.target);
    }
    draw();
  }, { rootMargin: "100px" });
  figures.forEach((figure) => watcher.observe(figure));

  let turn = 0, tilt = 0, spinning = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const product = (a, b) => a.map((row) => b[0].map((_, j) => row.reduce((s, x, k) => s + x * b[k][j], 0)));

  function draw() {
    const [c, s, d, e] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    const about = product([[1, 0, 0], [0, d, -e], [0, e, d]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]);
    const view = product(about, camera.view);
    gl.viewport(0, 0, size, size);
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    gl.uniformMatrix3fv(place("view"), true, view.flat());
    gl.uniform3fv(place("centre"), camera.centre);
    gl.uniform1f(place("reach"), camera.reach);
    gl.uniform3fv(place("still"), still);
    gl.uniform3fv(place("moving"), moving);
    for (const mesh of seen.values()) {
      gl.clearColor(1, 1, 1, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.bindVertexArray(mesh.array);
      gl.drawElements(gl.TRIANGLES, mesh.length, gl.UNSIGNED_SHORT, 0);
      mesh.context.drawImage(stage, 0, 0);
    }
  }

  let before = 0;
  function step(now) {
    if (spinning && seen.size) {
      turn += 0.0004 * Math.min(now - before, 100);
      draw();
    }
    before = now;
    requestAnimationFrame(step);
  }
  requestAnimationFrame(step);

  const button = document.getElementById("spin");
  const label = () => { button.textContent = spinning ? "Stop turning" : "Turn"; };
  button.hidden = false;
  button.addEventListener("click", () => { spinning = !spinning; label(); });
  label();
  for (const figure of figures) {
    const canvas = figure.querySelector("canvas");
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); spinning = false; label(); });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      turn += 0.01 * event.movementX;
      tilt += 0.01 * event.movementY;
      draw();
    });
  }
})();
