// From where the selected particles are seen, beside all of them: cells of equal solid angle.

import { api } from "./api";
import { blend, VIRIDIS } from "./colours";
import { find, greyPicture, make } from "./page";

const WIDTH = 180;

export async function showDirections(rows: Int32Array): Promise<void> {
  const { arrays, shapes } = await api.directions(rows);
  const [height, width] = shapes.all;
  // One scale for both, so that they can be compared.
  const most = Math.max(...arrays.all, ...arrays.selected);
  const picture = (name: string, caption: string) =>
    make(
      "figure",
      { title: "Across: azimuth, -180° to 180°. Up: seen from the top (z), down: from below. Cells of equal solid angle." },
      greyPicture(arrays[name], height, width, 0, most, WIDTH, (shade) => blend(VIRIDIS, shade)),
      make("figcaption", { textContent: caption }),
    );
  find("directions").replaceChildren(picture("selected", "view directions, selected"), picture("all", "view directions, all"));
}
