// The geometry of the flow picture, a section through a stepped spillway. Pure: numbers in, paths out.
//
//   ~~~~~~~~~~~~~~          water comes from the left and lies on the bed of the first step;
//   ______  _______\~~~~    what the tier serves leaves through its outlet, down to the bottom line;
//         ||        |___    what it cannot take flows over the edge to the next step.

// How far the ends of a fall run on level, as a share of its width.
const FALL = 0.5;

function shapeOf(widths, { width, height, top, drop, side }) {
  const stages = widths.length;
  const column = (width - side) / stages;
  const beds = widths.map((_, index) => top + index * drop);
  const steps = [];
  for (let index = 0; index < stages; index += 1) {
    const start = index === 0 ? 0 : side + index * column;
    const edge = side + (index + 1) * column - (index === stages - 1 ? 0 : fallOf(column));
    const remains = sum(widths.slice(index)) ?? 0;
    const served = widths[index];
    const bed = beds[index];
    const outlet = (index === 0 ? side : start) + Math.min(column * 0.16, 34);
    steps.push({
      bed, start, edge, outlet, served, remains,
      next: index + 1 < stages ? { x: side + (index + 1) * column, bed: beds[index + 1] } : null,
    });
  }
  return { steps, mass: massOf(steps, width, height), bed: bedOf(steps, width) };
}

// How far a fall reaches to the right.
function fallOf(column) {
  return Math.min(54, column * 0.26);
}

// The water that the tier serves: along the bed, then down through the outlet.
function servedPath({ bed, start, outlet, served }, height) {
  const high = bed - served;
  const bend = 10;
  const far = outlet + served;
  return `M${start} ${high}L${outlet - bend} ${high}C${far - bend * 0.2} ${high} ${far} ${high + bend} ${far} ${bed + bend}L${far} ${height}`
    + `L${outlet} ${height}L${outlet} ${bed + bend}C${outlet} ${bed + 3} ${outlet - 3} ${bed} ${outlet - bend} ${bed}L${start} ${bed}Z`;
}

// The water that goes on: over the outlet, back down to the bed, and over the edge.
function overflowPath({ bed, start, outlet, edge, served, remains, next }) {
  const over = remains - served;
  const end = next ?? { x: edge, bed };
  const a = outlet + served + 6;
  const b = Math.max(a, Math.min(edge, a + 40));
  const ease = (b - a) / 2;
  const reach = (end.x - edge) * FALL;
  // On the slope a band looks thinner than it is; the upper side leans out to make up for it.
  const lean = Math.min(over * 0.5, reach);
  const upper = bed - remains;
  const lower = bed - served;
  return `M${start} ${upper}L${outlet} ${upper}C${a + ease} ${upper} ${b - ease} ${bed - over} ${b} ${bed - over}L${edge} ${bed - over}`
    + `C${edge + reach + lean} ${bed - over} ${end.x - reach + lean} ${end.bed - over} ${end.x + lean} ${end.bed - over}L${end.x + lean + 1} ${end.bed - over}`
    + `L${end.x + lean + 1} ${end.bed}L${end.x} ${end.bed}C${end.x - reach} ${end.bed} ${edge + reach} ${bed} ${edge} ${bed}`
    + `L${b} ${bed}C${b - ease} ${bed} ${a + ease} ${lower} ${outlet} ${lower}L${start} ${lower}Z`;
}

// A line in the middle of a band, for the streaks that show where the water goes.
function servedLine({ bed, start, outlet, served }, height) {
  const middle = bed - served / 2;
  const x = outlet + served / 2;
  return `M${start} ${middle}L${outlet - 10} ${middle}C${x - 2} ${middle} ${x} ${middle + 10} ${x} ${bed + 12}L${x} ${height}`;
}

function overflowLine({ bed, start, outlet, edge, served, remains, next }) {
  const over = remains - served;
  const end = next ?? { x: edge, bed };
  const a = outlet + served + 6;
  const b = Math.max(a, Math.min(edge, a + 40));
  const reach = (end.x - edge) * FALL;
  return `M${start} ${bed - served - over / 2}L${outlet} ${bed - served - over / 2}C${(a + b) / 2} ${bed - served - over / 2} ${(a + b) / 2} ${bed - over / 2} ${b} ${bed - over / 2}`
    + `L${edge} ${bed - over / 2}C${edge + reach} ${bed - over / 2} ${end.x - reach} ${end.bed - over / 2} ${end.x} ${end.bed - over / 2}`;
}

function slope(edge, bed, next) {
  const reach = (next.x - edge) * FALL;
  return `C${edge + reach} ${bed} ${next.x - reach} ${next.bed} ${next.x} ${next.bed}`;
}

function stairs(steps) {
  return steps.map(({ bed, edge, next }) => `L${edge} ${bed}${next ? slope(edge, bed, next) : ''}`).join('');
}

function bedOf(steps, width) {
  return `M0 ${steps[0].bed}${stairs(steps)}L${width} ${steps.at(-1).bed}`;
}

function massOf(steps, width, height) {
  return `M0 ${steps[0].bed}${stairs(steps)}L${width} ${steps.at(-1).bed}L${width} ${height}L0 ${height}Z`;
}
