// Messages of the server: length of the header, header (JSON), arrays. See explore/view/wire.py.

export type Numbers = Float32Array | Uint32Array | Int32Array | Uint8Array;

export interface Message {
  header: Record<string, any>;
  arrays: Record<string, Numbers>;
  shapes: Record<string, number[]>;
}

const TYPES = { float32: Float32Array, uint32: Uint32Array, int32: Int32Array, uint8: Uint8Array };

export function unpack(buffer: ArrayBuffer): Message {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays: Record<string, Numbers> = {};
  const shapes: Record<string, number[]> = {};
  let offset = 4 + length;
  for (const { name, type, shape } of header.arrays as { name: string; type: keyof typeof TYPES; shape: number[] }[]) {
    const count = shape.reduce((a, b) => a * b, 1);
    const array = new TYPES[type](buffer, offset, count);
    arrays[name] = array;
    shapes[name] = shape;
    offset += Math.ceil(array.byteLength / 4) * 4;
  }
  return { header, arrays, shapes };
}
