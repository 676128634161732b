// The theme: the system's, or the other one by the button. Runs first, needs nothing.
//
// Tells of a change by the event hc:theme, since charts are drawn in colours, not in properties.
(function () {
  'use strict';

  const root = document.documentElement;
  const button = document.getElementById('theme');
  const system = window.matchMedia('(prefers-color-scheme: dark)');

  function isDark() {
    const theme = root.dataset.theme;
    return theme === 'dark' || (theme !== 'light' && system.matches);
  }

  function announce() {
    if (button) button.setAttribute('aria-pressed', String(isDark()));
    document.dispatchEvent(new CustomEvent('hc:theme'));
  }

  if (button) {
    button.addEventListener('click', () => {
      root.dataset.theme = isDark() ? 'light' : 'dark';
      announce();
    });
  }
  system.addEventListener('change', announce);

  // paper is light, and charts need their own drawing for it
  let before = null;
  window.addEventListener('beforeprint', () => {
    for (const each of document.querySelectorAll('details[data-print]')) each.open = true;
    if (!isDark()) return;
    before = root.dataset.theme;
    root.dataset.theme = 'light';
    announce();
  });
  window.addEventListener('afterprint', () => {
    if (before === null) return;
    root.dataset.theme = before;
    before = null;
    announce();
  });
  announce();
})();
