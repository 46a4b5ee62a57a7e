// From vectors to what is drawn: similarities, and positions in two dimensions.

const ROUNDS = 1000;
const SETTLED = 1e-12; // change of a direction between two rounds

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

/** Cosines of vectors of length 1: a matrix, one row per vector. */
export function cosines(vectors) {
  const rows = vectors.map(() => new Array(vectors.length).fill(1));
  for (let i = 0; i < vectors.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      rows[i][j] = rows[j][i] = Math.max(-1, Math.min(1, dot(vectors[i], vectors[j])));
    }
  }
  return rows;
}

/** The most and the least similar pair, as {a, b, value}; null for fewer than two texts. */
export function extremes(rows) {
  let most = null;
  let least = null;
  rows.forEach((row, b) => row.slice(0, b).forEach((value, a) => {
    if (!most || value > most.value) most = { a, b, value };
    if (!least || value < least.value) least = { a, b, value };
  }));
  return most && { most, least };
}

/**
 * The first two principal components of vectors of length 1, from their cosines.
 *
 * Returns {points: [[x, y], ...], share}, where `share` is how much of the variance they show. The
 * products of centred vectors follow from the cosines, so the vectors themselves are not needed.
 */
export function principalComponents(rows) {
  const products = centred(rows);
  const total = products.reduce((sum, row, index) => sum + row[index], 0);
  const axes = [0, 1].map(() => {
    const { direction, value } = strongest(products);
    remove(products, direction, value);
    return { direction, value: Math.max(value, 0) };
  });
  const points = rows.map((_, text) => (
    axes.map(({ direction, value }) => direction[text] * Math.sqrt(value))));
  const shown = axes.reduce((sum, axis) => sum + axis.value, 0);
  return { points, share: total > SETTLED ? Math.min(shown / total, 1) : 0 };
}

function centred(rows) {
  const means = rows.map((row) => row.reduce((sum, value) => sum + value, 0) / row.length);
  const mean = means.reduce((sum, value) => sum + value, 0) / means.length;
  return rows.map((row, i) => row.map((value, j) => value - means[i] - means[j] + mean));
}

/** The direction of the largest eigenvalue, by power iteration from a fixed start. */
function strongest(matrix) {
  let direction = normalised(matrix.map((_, index) => Math.sin(index + 1)));
  let value = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const product = matrix.map((row) => dot(row, direction));
    value = dot(product, direction);
    const next = normalised(product);
    const change = next.reduce((sum, one, index) => sum + (one - direction[index]) ** 2, 0);
    direction = next;
    if (change < SETTLED) break;
  }
  const largest = direction.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  return { direction: largest < 0 ? direction.map((one) => -one) : direction, value };
}

function remove(matrix, direction, value) {
  matrix.forEach((row, i) => row.forEach((_, j) => {
    row[j] -= value * direction[i] * direction[j];
  }));
}

function normalised(vector) {
  const length = Math.sqrt(dot(vector, vector));
  return length > SETTLED ? vector.map((value) => value / length) : vector.map(() => 0);
}
