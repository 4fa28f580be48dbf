// Turning by the mouse, and an orthographic view of it.

export type Quaternion = [number, number, number, number];

export function multiply([ax, ay, az, aw]: Quaternion, [bx, by, bz, bw]: Quaternion): Quaternion {
  return [
    aw * bx + ax * bw + ay * bz - az * by,
    aw * by - ax * bz + ay * bw + az * bx,
    aw * bz + ax * by - ay * bx + az * bw,
    aw * bw - ax * bx - ay * by - az * bz,
  ];
}

export function normalise(q: Quaternion): Quaternion {
  const length = Math.hypot(...q) || 1;
  return q.map((value) => value / length) as Quaternion;
}

export function aboutAxis(x: number, y: number, z: number, radians: number): Quaternion {
  const sine = Math.sin(radians / 2);
  return [x * sine, y * sine, z * sine, Math.cos(radians / 2)];
}

// Column-major 3 x 3 matrix of a rotation.
export function matrix([x, y, z, w]: Quaternion): Float32Array {
  return new Float32Array([
    1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w),
    2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w),
    2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y),
  ]);
}

// z, the long axis of many molecules, upwards.
export const START: Quaternion = normalise(multiply(aboutAxis(0, 1, 0, 0.5), aboutAxis(1, 0, 0, -Math.PI / 2)));

export class Camera {
  turn: Quaternion = START;
  zoom = 1;
  pan: [number, number] = [0, 0];
  // Half of what is seen at zoom 1, Angstrom.
  reach = 100;

  rotate(dx: number, dy: number): void {
    const drag = multiply(aboutAxis(0, 1, 0, dx * 0.008), aboutAxis(1, 0, 0, dy * 0.008));
    this.turn = normalise(multiply(drag, this.turn));
  }

  roll(radians: number): void {
    this.turn = normalise(multiply(aboutAxis(0, 0, 1, radians), this.turn));
  }

  reset(): void {
    this.turn = START;
    this.zoom = 1;
    this.pan = [0, 0];
  }
}
