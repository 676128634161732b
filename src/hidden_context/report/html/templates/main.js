// Starts the page: the comparisons, then the charts. Runs last.
//
// <html data-ready="true"> says that the page answers to everything.
(function () {
  'use strict';

  const HC = window.HC;
  const root = document.documentElement;
  const DEBOUNCE = 80; // ms after the last keystroke of a search
  const byId = (id) => document.getElementById(id);

  /** Fill a filter with the values of its column, or hide it where there are fewer than two. */
  function fillSelect(select, comparisons, column) {
    if (!select) return;
    const values = comparisons.has(column) ? comparisons.distinct(column) : [];
    const hidden = values.length < 2;
    select.hidden = hidden;
    for (const label of select.labels) label.hidden = hidden;
    for (const [value, count] of values) {
      select.append(HC.element('option', { value }, `${value} (${HC.count(count)})`));
    }
  }

  function readFilters() {
    const value = (id) => (byId(id) ? byId(id).value : '');
    const all = (text) => (text === 'all' ? '' : text);
    return {
      search: value('search'),
      subset: all(value('filter-subset')),
      objective: all(value('filter-objective')),
      context: all(value('filter-context')),
      right: all(value('filter-right')),
      contested: Boolean(byId('filter-contested') && byId('filter-contested').checked),
    };
  }

  function startFilters(form, apply) {
    let timer = 0;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      apply();
    });
    form.addEventListener('reset', () => setTimeout(apply)); // fields change after the event
    form.addEventListener('input', (event) => {
      clearTimeout(timer);
      if (event.target.id === 'search') timer = setTimeout(apply, DEBOUNCE);
      else apply();
    });
  }

  async function startComparisons() {
    const container = byId('grid');
    const pairs = container ? await HC.decodePairs() : null;
    if (!pairs) return;
    const comparisons = new HC.Comparisons(pairs);
    fillSelect(byId('filter-subset'), comparisons, 'subset');
    fillSelect(byId('filter-objective'), comparisons, 'objective');
    fillSelect(byId('filter-context'), comparisons, 'context');

    const grid = new HC.Grid(container, comparisons, { onOpen: open });
    const back = () => grid.focus();
    const dialog = new HC.PairDialog(byId('pair'), comparisons, { step, close: back });
    HC.grid = grid;

    function open(place) {
      dialog.open(grid.view[place], place, grid.view.length);
    }
    function step(by) {
      const place = grid.active + by;
      if (place < 0 || place >= grid.view.length) return;
      grid.activate(place);
      open(place);
    }
    function apply() {
      grid.filter(readFilters());
      const shown = HC.count(grid.view.length);
      byId('count').textContent = `${shown} of ${HC.count(comparisons.size)} comparisons`;
    }
    startFilters(byId('filters'), apply);
    apply(); // a browser may have kept what was in the form before a reload
    comparisons.buildWhenIdle();
  }

  async function start() {
    const data = HC.readData();
    try {
      await startComparisons();
    } catch (error) {
      console.error(error);
      const words = `The comparisons could not be read: ${error.message}`;
      if (byId('count')) byId('count').textContent = words;
    }
    // after the first paint, so that drawing does not hold it up
    requestAnimationFrame(() =>
      setTimeout(() => {
        HC.charts.watch(data.analyses || []);
        root.dataset.ready = 'true';
      }),
    );
  }

  start();
})();
