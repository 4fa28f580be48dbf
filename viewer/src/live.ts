// The live connection. Each panel has one request under way and remembers only the newest that waits.

import { unpack, type Message } from "./wire";

export class Live {
  onMessage: (message: Message) => void = () => {};
  onError: (text: string) => void = () => {};
  onOpen: (open: boolean) => void = () => {};
  private socket: WebSocket | null = null;
  private underWay = new Map<string, number>();
  private waiting = new Map<string, object>();
  private serial = 0;

  connect(): void {
    const socket = new WebSocket(`ws://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.socket = socket;
      this.onOpen(true);
      for (const panel of [...this.waiting.keys()]) this.advance(panel);
    };
    socket.onclose = () => {
      this.socket = null;
      this.underWay.clear();
      this.onOpen(false);
      setTimeout(() => this.connect(), 1500);
    };
    socket.onmessage = (event) => this.receive(event.data);
  }

  ask(panel: string, request: object): void {
    this.waiting.set(panel, request);
    if (!this.underWay.has(panel)) this.advance(panel);
  }

  private advance(panel: string): void {
    const request = this.waiting.get(panel);
    if (!request || !this.socket) return;
    this.waiting.delete(panel);
    this.underWay.set(panel, ++this.serial);
    this.socket.send(JSON.stringify({ ...request, panel, serial: this.serial }));
  }

  private receive(data: ArrayBuffer | string): void {
    const message: Message = typeof data === "string" ? { header: JSON.parse(data), arrays: {}, shapes: {} } : unpack(data);
    const { kind, panel } = message.header;
    if (panel) {
      this.underWay.delete(panel);
      this.advance(panel);
    }
    if (kind === "error") this.onError(message.header.message);
    else this.onMessage(message);
  }
}
