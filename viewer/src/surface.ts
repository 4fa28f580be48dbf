// Surfaces in three dimensions (WebGL2): one or two views side by side that share a camera.

import { Camera, matrix } from "./camera";
import { table, theme, type RGB } from "./colours";

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in float value;
uniform mat3 turn; uniform vec2 scale; uniform vec2 shift; uniform float reach;
out vec3 n; out float v; out float depth;
void main() {
  vec3 p = turn * position;
  n = turn * normal; v = value; depth = p.z / reach;
  gl_Position = vec4(p.xy * scale + shift, -p.z / (3.0 * reach), 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in float v; in float depth;
uniform vec3 plain; uniform bool coloured; uniform vec2 range; uniform sampler2D colours;
uniform vec3 background; uniform float opacity; uniform float faint;
out vec4 pixel;
void main() {
  vec3 m = normalize(n);
  if (m.z < 0.0) m = -m;
  vec3 base = coloured ? texture(colours, vec2((v - range.x) / (range.y - range.x), 0.5)).rgb : plain;
  float key = max(dot(m, normalize(vec3(-0.45, 0.55, 0.70))), 0.0);
  float sky = 0.5 + 0.5 * m.y;
  float shine = pow(max(dot(m, normalize(vec3(-0.24, 0.30, 0.92))), 0.0), 40.0);
  vec3 lit = base * (0.30 + 0.62 * key + 0.16 * sky) + 0.10 * shine;
  lit *= mix(0.62, 1.0, smoothstep(0.0, 0.55, m.z));
  lit = mix(lit, background, faint * clamp(0.5 - 0.5 * depth, 0.0, 1.0));
  pixel = vec4(lit, opacity);
}`;

// Where software draws: fewer pixels while something moves, and smooth edges by more of them at rest.
const MOVING_SCALE = 0.6;
const REST_SCALE = 1.5;
const REST = 220;

export interface Mesh {
  vertices: Float32Array;
  normals: Float32Array;
  faces: Uint32Array;
  values?: Float32Array;
}

interface Stored {
  array: WebGLVertexArrayObject;
  buffers: Record<"position" | "normal" | "value" | "faces", WebGLBuffer>;
  count: number;
  valued: boolean;
}

export interface Colours {
  map: RGB[];
  low: number;
  high: number;
}

export type Part = "current" | "pinned" | "gained" | "lost";

export class SurfaceView {
  camera = new Camera();
  frames = 0;
  colours: Colours | null = null;
  layout: "single" | "beside" | "difference" = "single";
  onTurn: () => void = () => {};

  private gl: WebGL2RenderingContext;
  private program: WebGLProgram;
  private stored = new Map<Part, Stored>();
  private texture: WebGLTexture;
  private scheduled = false;
  private fitted = false;
  private software = softwareRendering();
  private moving = false;
  private rest = 0;

  constructor(private canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { antialias: !this.software, alpha: false });
    if (!gl) throw new Error("This browser offers no WebGL 2, which the surface is drawn with.");
    this.gl = gl;
    this.program = link(gl);
    this.texture = gl.createTexture()!;
    new ResizeObserver(() => this.schedule()).observe(canvas);
    this.listen();
  }

  show(part: Part, mesh: Mesh): void {
    const gl = this.gl;
    const stored = this.stored.get(part) ?? this.create();
    this.stored.set(part, stored);
    gl.bindVertexArray(stored.array);
    const fill = (target: number, buffer: WebGLBuffer, data: Float32Array | Uint32Array) => {
      gl.bindBuffer(target, buffer);
      gl.bufferData(target, data, gl.DYNAMIC_DRAW);
    };
    fill(gl.ARRAY_BUFFER, stored.buffers.position, mesh.vertices);
    fill(gl.ARRAY_BUFFER, stored.buffers.normal, mesh.normals);
    fill(gl.ARRAY_BUFFER, stored.buffers.value, mesh.values ?? new Float32Array(mesh.vertices.length / 3));
    fill(gl.ELEMENT_ARRAY_BUFFER, stored.buffers.faces, mesh.faces);
    stored.count = mesh.faces.length;
    stored.valued = mesh.values !== undefined;
    if (!this.fitted && mesh.vertices.length) this.fit(mesh.vertices);
    this.schedule();
  }

  schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.moving = true;
      this.draw();
      clearTimeout(this.rest);
      if (this.software) this.rest = window.setTimeout(() => this.drawAtRest(), REST);
    });
  }

  private drawAtRest(): void {
    this.moving = false;
    this.draw();
  }

  // What is shown, drawn now (a canvas of WebGL is empty again afterwards), and how many of its pixels an Angstrom has.
  drawing(): { canvas: HTMLCanvasElement; pixelsPerAngstrom: number } {
    this.drawAtRest();
    const { canvas, camera } = this;
    const width = this.layout === "beside" ? canvas.width / 2 : canvas.width;
    return { canvas, pixelsPerAngstrom: ((camera.zoom / camera.reach) * Math.min(width, canvas.height)) / 2 };
  }

  private fit(vertices: Float32Array): void {
    let farthest = 0;
    for (let i = 0; i < vertices.length; i += 3)
      farthest = Math.max(farthest, Math.hypot(vertices[i], vertices[i + 1], vertices[i + 2]));
    this.camera.reach = 1.08 * farthest;
    this.fitted = true;
  }

  private create(): Stored {
    const gl = this.gl;
    const array = gl.createVertexArray()!;
    gl.bindVertexArray(array);
    const buffer = () => gl.createBuffer()!;
    const buffers = { position: buffer(), normal: buffer(), value: buffer(), faces: buffer() };
    for (const [name, size] of [
      ["position", 3],
      ["normal", 3],
      ["value", 1],
    ] as const) {
      const location = gl.getAttribLocation(this.program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
      gl.enableVertexAttribArray(location);
      gl.vertexAttribPointer(location, size, gl.FLOAT, false, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.faces);
    return { array, buffers, count: 0, valued: false };
  }

  private draw(): void {
    const { gl, canvas } = this;
    const ratio = Math.min(2, devicePixelRatio || 1) * (this.software ? (this.moving ? MOVING_SCALE : REST_SCALE) : 1);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const { background } = theme();
    gl.viewport(0, 0, width, height);
    gl.clearColor(background[0] / 255, background[1] / 255, background[2] / 255, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    if (this.layout === "beside") {
      const half = Math.floor(width / 2);
      this.drawView(0, half, height, ["pinned"]);
      this.drawView(half, width - half, height, ["current"]);
    } else if (this.layout === "difference") this.drawView(0, width, height, ["gained", "lost", "current"]);
    else this.drawView(0, width, height, ["current"]);
    this.frames++;
  }

  private drawView(left: number, width: number, height: number, parts: Part[]): void {
    const { gl, camera } = this;
    const at = (name: string) => gl.getUniformLocation(this.program, name);
    gl.viewport(left, 0, width, height);
    const extent = (camera.zoom / camera.reach) * Math.min(width, height);
    gl.uniformMatrix3fv(at("turn"), false, matrix(camera.turn));
    gl.uniform2f(at("scale"), extent / width, extent / height);
    gl.uniform2f(at("shift"), camera.pan[0], camera.pan[1]);
    gl.uniform1f(at("reach"), camera.reach);
    const colours = theme();
    gl.uniform3fv(at("background"), colours.background.map((value) => value / 255));
    gl.uniform1f(at("faint"), 0.35);
    const plain = { current: colours.surface, pinned: colours.surface, gained: colours.gained, lost: colours.lost };
    for (const part of parts) {
      const stored = this.stored.get(part);
      if (!stored?.count) continue;
      const glass = this.layout === "difference" && part === "current";
      gl.uniform3fv(at("plain"), plain[part].map((value) => value / 255));
      gl.uniform1i(at("coloured"), stored.valued && this.colours && !glass ? 1 : 0);
      gl.uniform1f(at("opacity"), glass ? 0.3 : 1);
      this.bindColours(at);
      gl.bindVertexArray(stored.array);
      if (glass) this.drawGlass(stored.count);
      else gl.drawElements(gl.TRIANGLES, stored.count, gl.UNSIGNED_INT, 0);
    }
  }

  // Only the nearest layer: its depth first, then its colour over what lies behind.
  private drawGlass(count: number): void {
    const gl = this.gl;
    gl.colorMask(false, false, false, false);
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
    gl.colorMask(true, true, true, true);
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
    gl.disable(gl.BLEND);
    gl.depthFunc(gl.LESS);
  }

  private bindColours(at: (name: string) => WebGLUniformLocation | null): void {
    if (!this.colours) return;
    const gl = this.gl;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, table(this.colours.map));
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.uniform2f(at("range"), this.colours.low, this.colours.high);
  }

  private listen(): void {
    const { canvas, camera } = this;
    let last: [number, number] | null = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      if (event.buttons & 2 || event.ctrlKey) {
        camera.pan = [camera.pan[0] + (2 * dx) / canvas.clientWidth, camera.pan[1] - (2 * dy) / canvas.clientHeight];
      } else if (event.shiftKey) camera.roll(-dx * 0.01);
      else camera.rotate(dx, dy);
      last = [event.clientX, event.clientY];
      this.schedule();
    });
    canvas.addEventListener("pointerup", () => {
      last = null;
      this.onTurn();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 500));
      },
      { passive: false },
    );
  }

  zoomBy(factor: number): void {
    this.camera.zoom = Math.min(20, Math.max(0.2, this.camera.zoom * factor));
    this.schedule();
    this.onTurn();
  }
}


// Without a graphics card the processor draws, and shares its time with the decoder.
function softwareRendering(): boolean {
  const gl = document.createElement("canvas").getContext("webgl2");
  const info = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = info ? String(gl!.getParameter(info.UNMASKED_RENDERER_WEBGL)) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

function link(gl: WebGL2RenderingContext): WebGLProgram {
  const program = gl.createProgram()!;
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(kind)!;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "no shaders");
  return program;
}
