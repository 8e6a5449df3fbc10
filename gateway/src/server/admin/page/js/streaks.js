// Lets the streaks in the water run. Twelve small steps a second, written to one inherited property,
// instead of a CSS animation, which would paint sixty times a second for as long as the page is open.

const STEP_MS = 83;
const STEP_PX = 2;
const PATTERN_PX = 126;
const calm = matchMedia('(prefers-reduced-motion: reduce)');
let inView = true;
let offset = 0;

new IntersectionObserver(([seen]) => { inView = seen.isIntersecting; }).observe(canvas);
setInterval(() => {
  const stands = calm.matches || document.hidden || !inView || document.documentElement.hasAttribute('data-stale');
  if (stands || !drawn) return;
  offset = (offset + STEP_PX) % PATTERN_PX;
  drawn.root.style.strokeDashoffset = `${-offset}px`;
}, STEP_MS);
