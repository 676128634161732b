// Reward distributions as mixtures of normals: moments, range and density.
//
// A component is {weight, location, scale}; scale 0 is a point mass.
(function () {
  'use strict';

  const HC = (window.HC = window.HC || {});
  const REACH = 4; // standard deviations drawn on either side
  const NEGLIGIBLE = 0.001; // lighter components do not stretch the axis

  /** The components of one side ('chosen' or 'rejected') of a comparison. */
  function components(pairs, side, index) {
    const count = pairs.components;
    const table = pairs[`${side}_components`];
    return Array.from({ length: count }, (_, c) => ({
      weight: table.weight[index * count + c],
      location: table.location[index * count + c],
      scale: table.scale[index * count + c],
    })).filter((part) => part.weight > 0 && Number.isFinite(part.location));
  }

  /** mean = Σ w m; variance = Σ w (s² + (m − mean)²). */
  function moments(parts) {
    const total = parts.reduce((sum, part) => sum + part.weight, 0) || 1;
    const mean = parts.reduce((sum, part) => sum + part.weight * part.location, 0) / total;
    const variance =
      parts.reduce(
        (sum, part) => sum + part.weight * (part.scale ** 2 + (part.location - mean) ** 2),
        0,
      ) / total;
    return { mean, stddev: Math.sqrt(variance) };
  }

  /** An interval that holds every component of all sides to ±4 of its standard deviations. */
  function range(sides) {
    const parts = sides.flat();
    const heavy = parts.filter((part) => part.weight >= NEGLIGIBLE);
    const shown = heavy.length ? heavy : parts;
    if (!shown.length) return [-1, 1];
    const low = Math.min(...shown.map((part) => part.location - REACH * part.scale));
    const high = Math.max(...shown.map((part) => part.location + REACH * part.scale));
    // point masses lie at the very edge, so a little room is left beside them
    const room = shown.some((part) => part.scale === 0) ? 0.08 * (high - low) || 1 : 0;
    return [low - room, high + room];
  }

  /** Σ w φ((x − m)/s)/s at each x, over the components that have a density. */
  function density(parts, grid) {
    const smooth = parts.filter((part) => part.scale > 0);
    const constant = 1 / Math.sqrt(2 * Math.PI);
    return grid.map((x) =>
      smooth.reduce((sum, { weight, location, scale }) => {
        const z = (x - location) / scale;
        return sum + ((weight * constant) / scale) * Math.exp(-0.5 * z * z);
      }, 0),
    );
  }

  /** The point masses, as stems: where, and with what weight. */
  function stems(parts) {
    return parts.filter((part) => part.scale === 0);
  }

  /**
   * Points at which to draw: evenly spaced, with more of them around narrow components, whose
   * peaks an even grid would step over.
   */
  function grid(sides, [low, high], count) {
    const points = Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
    for (const { location, scale } of sides.flat()) {
      if (scale > 0 && scale < (high - low) / 40) {
        for (let z = -REACH; z <= REACH; z += 0.25) points.push(location + z * scale);
      }
    }
    return points.filter((x) => x >= low && x <= high).sort((a, b) => a - b);
  }

  /** Round tick values inside an interval, about `count` of them. */
  function ticks([low, high], count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= 0.75 * rough) || 10 * power;
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return Array.from({ length: last - first + 1 }, (_, i) => ({
      value: (first + i) * step,
      text: HC.number((first + i) * step, digits),
    }));
  }

  HC.distribution = { components, moments, range, density, stems, grid, ticks };
})();
