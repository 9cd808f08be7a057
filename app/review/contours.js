// Planes of a volume: their axes, their places side by side, and level lines in them (marching squares).
"use strict";

// Voxel axes that run across and along each plane, and the one it is stacked on; in NiiVue's order of slices.
const PLANES = {
  axial: { across: 0, along: 1, through: 2 },
  coronal: { across: 0, along: 2, through: 1 },
  sagittal: { across: 1, along: 2, through: 0 },
};

// Places of the three planes side by side, one millimetre as long in each, as shares of the stage.
function layout(size, width, height) {
  const planes = Object.values(PLANES);
  const wide = planes.map(({ across }) => size[across]);
  const high = planes.map(({ along }) => size[along]);
  const total = wide.reduce((sum, mm) => sum + mm, 0);
  const tallest = Math.max(...high);
  const scale = Math.min(width / total, height / tallest) * 0.995;
  const gap = (width - scale * total) / 3;
  let left = gap / 2;
  const positions = wide.map((mm, n) => {
    const share = (scale * high[n]) / height;
    const position = [left / width, (1 - share) / 2, (scale * mm) / width, share];
    left += scale * mm + gap;
    return position;
  });
  const ends = positions.map(([start, , share]) => start + share + gap / width / 2);
  return { positions, ends, wide, total, tallest };
}

// One plane of voxels (i fastest, then j, then k), with a border of zeros so that every line closes.
function planeOf(values, shape, plane, index, convert) {
  const { across, along, through } = PLANES[plane];
  const strides = [1, shape[0], shape[0] * shape[1]];
  const width = shape[across] + 2;
  const height = shape[along] + 2;
  const out = new Float32Array(width * height);
  for (let b = 0; b < shape[along]; b++) {
    let from = index * strides[through] + b * strides[along];
    let to = (b + 1) * width + 1;
    for (let a = 0; a < shape[across]; a++, from += strides[across]) out[to++] = convert(values[from]);
  }
  return { values: out, width, height };
}

// Where the plane crosses the level: pieces [a0, b0, a1, b1] in voxel indices of the unpadded plane.
function pieces(field, level) {
  const { values, width, height } = field;
  const found = [];
  const at = (low, high) => (level - low) / (high - low);
  for (let b = 0; b < height - 1; b++) {
    for (let a = 0; a < width - 1; a++) {
      const n = b * width + a;
      const v0 = values[n], v1 = values[n + 1], v2 = values[n + width + 1], v3 = values[n + width];
      const above = (v0 >= level) + 2 * (v1 >= level) + 4 * (v2 >= level) + 8 * (v3 >= level);
      if (above === 0 || above === 15) continue;
      // Crossings of the four edges, in order around the cell; two of them, or four at a saddle.
      const ends = [];
      if ((v0 >= level) !== (v1 >= level)) ends.push([a - 1 + at(v0, v1), b - 1]);
      if ((v1 >= level) !== (v2 >= level)) ends.push([a, b - 1 + at(v1, v2)]);
      if ((v3 >= level) !== (v2 >= level)) ends.push([a - 1 + at(v3, v2), b]);
      if ((v0 >= level) !== (v3 >= level)) ends.push([a - 1, b - 1 + at(v0, v3)]);
      if (ends.length === 4 && (v0 >= level) === ((v0 + v1 + v2 + v3) / 4 >= level)) ends.push(ends.shift());
      for (let e = 0; e < ends.length; e += 2) found.push([...ends[e], ...ends[e + 1]]);
    }
  }
  return found;
}

// Pieces as a path on the screen, through the map of voxel indices to pixels.
function path(found, place) {
  const line = new Path2D();
  for (const [a0, b0, a1, b1] of found) {
    line.moveTo(place.x0 + place.dx * a0, place.y0 + place.dy * b0);
    line.lineTo(place.x0 + place.dx * a1, place.y0 + place.dy * b1);
  }
  return line;
}

// Bytes of a base64 gzip.
async function unpack(base64) {
  const zipped = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
