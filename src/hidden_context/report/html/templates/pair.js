// The dialog that shows one comparison: both texts, P, and both reward distributions.
//
// HC.PairDialog(dialog, comparisons, {step, close}): open(index, place, total) fills and shows it.
(function () {
  'use strict';

  const HC = (window.HC = window.HC || {});
  const HEIGHT = 210;
  const MARGIN = { left: 10, right: 10, top: 10, bottom: 30 };
  const SIDES = ['chosen', 'rejected'];

  function badge(words, kind) {
    return HC.element('li', { class: `badge ${kind || ''}` }, words);
  }

  function percent(share) {
    return `${HC.number(100 * share, 0)} %`;
  }

  function preferenceWords(preference) {
    if (preference === 1) return 'labelled: chosen preferred';
    if (preference === 0) return 'labelled: rejected preferred';
    if (preference === 0.5) return 'labelled: no preference';
    return `labelled: ${percent(preference)} prefer chosen`;
  }

  function badges(pairs, i) {
    const list = HC.element('ul', { class: 'badges', 'aria-label': 'About this comparison' });
    const verdicts = { 1: ['✓ ranked right', 'right'], 0: ['✗ ranked wrong', 'wrong'] };
    const [words, kind] = verdicts[pairs.right[i]] || ['= tie', 'tie'];
    list.append(badge(words, kind));
    if (pairs.preference) list.append(badge(preferenceWords(pairs.preference[i])));
    for (const name of ['subset', 'objective', 'annotator', 'context']) {
      const value = pairs[name] && pairs[name][i];
      if (value) list.append(badge(`${name}: ${value}`));
    }
    if (pairs.cut && pairs.cut[i]) list.append(badge('text cut', 'tie'));
    return list;
  }

  function probability(pairs, i) {
    const fill = HC.element('span', { class: 'bar-fill' });
    fill.style.width = `${100 * pairs.p[i]}%`;
    const words = [`difference of means ${HC.number(pairs.gap[i], 2)}`];
    if (pairs.sigma && pairs.sigma[i] !== null) {
      words.push(`its standard deviation ${HC.number(pairs.sigma[i], 2)}`);
    }
    return HC.element(
      'div',
      { class: 'probability' },
      HC.element('p', { class: 'figure' }, HC.number(pairs.p[i], 3)),
      HC.element(
        'div',
        { class: 'grow' },
        HC.element('p', {}, 'P(chosen ≻ rejected)'),
        HC.element('div', { class: 'bar', 'aria-hidden': 'true' }, fill),
        HC.element('p', { class: 'small' }, words.join(', ')),
      ),
    );
  }

  /** "mean 1.20, standard deviation 0.40", or only the mean of a single point. */
  function momentsWords(moments) {
    const mean = `mean ${HC.number(moments.mean, 2)}`;
    return moments.stddev > 0
      ? `${mean}, standard deviation ${HC.number(moments.stddev, 2)}`
      : `${mean}, no spread`;
  }

  function legend(moments) {
    const items = SIDES.map((side) =>
      HC.element(
        'li',
        {},
        HC.element('span', { class: `swatch ${side}`, 'aria-hidden': 'true' }),
        `${side}: ${momentsWords(moments[side])}`,
      ),
    );
    return HC.element('ul', { class: 'legend' }, ...items);
  }

  /** Both densities over each other; solid and dashed, so that colour is not needed. */
  function densities(pairs, i, width) {
    const D = HC.distribution;
    const parts = SIDES.map((side) => D.components(pairs, side, i));
    const range = D.range(parts);
    const grid = D.grid(parts, range, 240);
    const curves = parts.map((each) => D.density(each, grid));
    const stems = parts.map((each) => D.stems(each));
    const peak = Math.max(...curves.flat(), 1e-12);
    const heaviest = Math.max(...stems.flat().map((stem) => stem.weight), 1e-12);
    const floor = HEIGHT - MARGIN.bottom;
    const inner = width - MARGIN.left - MARGIN.right;
    const x = (value) => MARGIN.left + (inner * (value - range[0])) / (range[1] - range[0]);
    const y = (share) => floor - share * (floor - MARGIN.top);
    const words = SIDES.map((side, s) => `${side} ${momentsWords(D.moments(parts[s]))}`).join('; ');
    const svg = HC.svg('svg', {
      class: 'densities',
      role: 'img',
      'aria-label': `Reward distributions: ${words}`,
      width,
      height: HEIGHT,
      viewBox: `0 0 ${width} ${HEIGHT}`,
    });
    for (const { value, text } of D.ticks(range, Math.max(4, Math.floor(width / 100)))) {
      const at = x(value);
      svg.append(
        HC.svg('line', { class: 'gridline', x1: at, x2: at, y1: MARGIN.top, y2: floor }),
        HC.svg('text', { x: at, y: floor + 20, 'text-anchor': 'middle' }, text),
      );
    }
    svg.append(HC.svg('line', { class: 'axis', x1: 0, x2: width, y1: floor, y2: floor }));
    SIDES.forEach((side, s) => {
      if (parts[s].some((part) => part.scale > 0)) {
        const at = (value, k) => [x(value), y(curves[s][k] / peak)].map((n) => n.toFixed(1)).join();
        const line = grid.map(at);
        const area = [`${x(range[0])},${floor}`, ...line, `${x(range[1])},${floor}`];
        svg.append(
          HC.svg('polygon', { class: `area ${side}`, points: area.join(' ') }),
          HC.svg('polyline', { class: `curve ${side}`, points: line.join(' ') }),
        );
      }
      for (const stem of stems[s]) {
        const at = x(stem.location) + (s ? 1.5 : -1.5); // side by side where both have a stem
        const top = y(stem.weight / heaviest);
        svg.append(
          HC.svg('line', { class: `curve ${side}`, x1: at, x2: at, y1: floor, y2: top }),
          HC.svg('circle', { class: `dot ${side}`, cx: at, cy: top, r: 4 }),
        );
      }
    });
    return svg;
  }

  function passage(title, words, extra) {
    return HC.element(
      'section',
      { class: `passage ${extra || ''}` },
      HC.element('h3', {}, title),
      HC.element('div', { class: 'text' }, words),
    );
  }

  HC.PairDialog = class PairDialog {
    constructor(dialog, comparisons, { step, close }) {
      this.dialog = dialog;
      this.body = dialog.querySelector('#pair-body');
      this.pairs = comparisons.pairs;
      this.comparisons = comparisons;
      this._buildHead(step);
      dialog.addEventListener('close', close);
      dialog.addEventListener('keydown', (event) => {
        if (event.altKey || event.ctrlKey || event.metaKey) return;
        if (event.key === 'ArrowLeft') step(-1);
        else if (event.key === 'ArrowRight') step(1);
        else return;
        event.preventDefault();
      });
      // the dialog has no padding of its own, so a click on it is a click beside its content
      dialog.addEventListener('click', (event) => {
        if (event.target === dialog) dialog.close();
      });
      window.addEventListener('resize', () => this._drawDensities());
    }

    _buildHead(step) {
      const make = (id, label, words, action) => {
        const button = HC.element('button', { type: 'button', id, 'aria-label': label }, words);
        button.addEventListener('click', action);
        return button;
      };
      // takes the focus at first, so that a screen reader begins with the title
      this.title = HC.element('h2', { id: 'pair-title', tabindex: -1 });
      this.position = HC.element('p', { class: 'small', role: 'status' });
      this.previous = make('pair-previous', 'Previous comparison', '←', () => step(-1));
      this.next = make('pair-next', 'Next comparison', '→', () => step(1));
      const close = make('pair-close', 'Close', '✕', () => this.dialog.close());
      this.content = HC.element('div', { class: 'pair-content' });
      this.body.replaceChildren(
        HC.element(
          'div',
          { class: 'pair-head' },
          HC.element('div', { class: 'grow' }, this.title, this.position),
          this.previous,
          this.next,
          close,
        ),
        this.content,
      );
    }

    /** Show a comparison; `place` of `total` is where it stands among those that are listed. */
    open(index, place, total) {
      const { pairs } = this;
      this.index = index;
      this.title.textContent = `Comparison in row ${HC.count(pairs.row[index])}`;
      this.position.textContent = `${HC.count(place + 1)} of ${HC.count(total)} listed`;
      // aria-disabled keeps the focus on a button that has reached the end
      this.previous.setAttribute('aria-disabled', String(place === 0));
      this.next.setAttribute('aria-disabled', String(place === total - 1));
      this.plot = HC.element('div', { class: 'density-plot' });
      const moments = {};
      SIDES.forEach((side) => {
        moments[side] = HC.distribution.moments(HC.distribution.components(pairs, side, index));
      });
      const prompt = this.comparisons.value(index, 'prompt');
      const cut = pairs.cut && pairs.cut[index];
      this.content.replaceChildren(
        badges(pairs, index),
        probability(pairs, index),
        HC.element('h3', {}, 'Distribution of reward'),
        legend(moments),
        this.plot,
        ...(prompt ? [passage('Prompt', prompt.trim())] : []),
        ...(cut
          ? [HC.element('p', { class: 'note' }, 'A text was too long for this page and is cut.')]
          : []),
        HC.element(
          'div',
          { class: 'texts' },
          passage('Chosen', pairs.chosen[index].trim(), 'chosen'),
          passage('Rejected', pairs.rejected[index].trim(), 'rejected'),
        ),
      );
      if (!this.dialog.open) {
        this.dialog.showModal();
        this.title.focus();
      }
      this.dialog.scrollTop = 0;
      this._drawDensities();
    }

    _drawDensities() {
      if (!this.dialog.open || !this.plot) return;
      const width = Math.max(240, this.plot.clientWidth);
      this.plot.replaceChildren(densities(this.pairs, this.index, width));
    }
  };
})();
