// The comparisons as a grid of which only the visible rows are in the document.
//
// HC.Grid(root, comparisons, {onOpen}) draws into root (role=grid). The keyboard moves an active
// row that aria-activedescendant names, so that focus stays on the grid while rows come and go.
(function () {
  'use strict';

  const HC = (window.HC = window.HC || {});
  const ROW_HEIGHT = 40;
  const SPARE_ROWS = 6; // kept beyond the visible ones, so that fast scrolling shows no gaps
  const SHOWN_CHARACTERS = 240; // more than any column is wide

  const text = (value) => (value || '').trimStart().slice(0, SHOWN_CHARACTERS);
  // every dialogue begins with the same word, which would take a third of a narrow column
  const opening = (value) => text((value || '').replace(/^\s*Human:/, ''));
  const VERDICTS = { 1: '✓ right', 0.5: '= tie', 0: '✗ wrong' };
  const VERDICT_CLASSES = { 1: 'right', 0.5: 'tie', 0: 'wrong' };

  const COLUMNS = [
    { key: 'row', title: 'Row', width: '4.75rem', numeric: true, narrow: true },
    { key: 'prompt', title: 'Prompt', width: 'minmax(0, 3fr)', format: opening, narrow: true },
    { key: 'chosen', title: 'Chosen', width: 'minmax(0, 3fr)', format: text },
    { key: 'rejected', title: 'Rejected', width: 'minmax(0, 3fr)', format: text },
    {
      key: 'p',
      title: 'P',
      explained: 'P: probability that chosen is preferred to rejected',
      width: '4.5rem',
      numeric: true,
      narrow: true,
      format: (value) => HC.number(value, 2),
    },
    {
      key: 'sigma',
      title: 'σ',
      explained: 'σ: standard deviation of the difference of the two rewards',
      width: '4.5rem',
      numeric: true,
      format: (value) => HC.number(value, 2),
    },
    {
      key: 'right',
      title: 'Right?',
      explained: 'Right? Whether the preferred side is ranked first',
      width: '6rem',
      format: (value) => VERDICTS[value] || '–',
      className: (value) => VERDICT_CLASSES[value] || '',
    },
    { key: 'subset', title: 'Subset', width: 'minmax(0, 7.5rem)', format: text },
    { key: 'objective', title: 'Objective', width: 'minmax(0, 7.5rem)', format: text },
  ];

  HC.Grid = class Grid {
    constructor(root, comparisons, { onOpen }) {
      this.root = root;
      this.comparisons = comparisons;
      this.onOpen = onOpen;
      this.columns = COLUMNS.filter(({ key }) => key === 'prompt' || comparisons.has(key));
      this.sort = { key: 'row', descending: false };
      this.order = comparisons.order('row', false);
      this.view = this.order; // indices that pass the filters, in order
      this.filters = {};
      this.active = 0; // place in the view
      this.rendered = new Map(); // place in the view → row element
      // kept here, since asking the document for them would have it laid out at every keystroke
      this.top = 0;
      this.height = window.innerHeight; // the grid is never higher
      this._build();
      this._listen();
      this._show();
    }

    /** Show those comparisons that pass the filters. */
    filter(filters) {
      this.filters = filters;
      this.root.scrollTop = this.top = 0; // before the rows change, while no layout is pending
      this._select();
    }

    /** Sort by a column; a second time turns the order round. */
    sortBy(key) {
      const descending = this.sort.key === key && !this.sort.descending;
      this.sort = { key, descending };
      this.order = this.comparisons.order(key, descending);
      this._markSort();
      this._select();
      this._scrollToActive();
      this._render();
    }

    /** Make a place in the view the active row and bring it into sight. */
    activate(place) {
      if (!this.view.length) return;
      this.active = Math.max(0, Math.min(place, this.view.length - 1));
      this._scrollToActive();
      this._render();
    }

    focus() {
      this.root.focus({ preventScroll: true });
    }

    _select() {
      const index = this.view[this.active];
      this.view = this.comparisons.select(this.order, this.filters);
      // the active row stays on its comparison where that is still shown
      this.active = Math.max(0, this.view.indexOf(index));
      this._show();
    }

    _build() {
      this.root.style.setProperty('--row-height', `${ROW_HEIGHT}px`);
      this.root.style.setProperty('--columns', this.columns.map((c) => c.width).join(' '));
      this.root.setAttribute('aria-colcount', this.columns.length);
      this.heads = this.columns.map((column, place) => {
        const arrow = HC.element('span', { class: 'arrow', 'aria-hidden': 'true' });
        const button = HC.element(
          'button',
          { type: 'button', title: column.explained },
          HC.element('span', {}, column.title),
          arrow,
        );
        button.addEventListener('click', () => this.sortBy(column.key));
        const attributes = { role: 'columnheader', 'aria-colindex': place + 1 };
        return HC.element('div', { ...attributes, class: this._classes(column) }, button);
      });
      const head = HC.element('div', { role: 'row', 'aria-rowindex': 1, class: 'row' });
      head.append(...this.heads);
      this.head = HC.element('div', { role: 'rowgroup', class: 'grid-head' }, head);
      this.body = HC.element('div', { role: 'rowgroup', class: 'grid-body' });
      this.root.replaceChildren(this.head, this.body);
      this._markSort();
    }

    _classes(column, extra) {
      const names = ['cell', `column-${column.key}`, extra];
      if (column.numeric) names.push('number');
      if (!column.narrow) names.push('wide-only');
      return names.filter(Boolean).join(' ');
    }

    _markSort() {
      this.heads.forEach((head, place) => {
        const sorted = this.columns[place].key === this.sort.key;
        const direction = this.sort.descending ? 'descending' : 'ascending';
        head.setAttribute('aria-sort', sorted ? direction : 'none');
        const arrow = this.sort.descending ? '▼' : '▲';
        head.querySelector('.arrow').textContent = sorted ? arrow : '';
      });
    }

    /** Draw the view afresh. */
    _show() {
      this.rendered.clear();
      this.root.setAttribute('aria-rowcount', this.view.length + 1);
      this.body.style.height = `${Math.max(1, this.view.length) * ROW_HEIGHT}px`;
      this.body.replaceChildren();
      if (this.view.length) {
        this._render();
      } else {
        this.root.removeAttribute('aria-activedescendant');
        const cell = HC.element('div', { role: 'gridcell', class: 'cell' }, 'Nothing matches.');
        this.body.append(HC.element('div', { role: 'row', class: 'row empty' }, cell));
      }
    }

    /** Put the visible rows and the active one into the document, and take the others out. */
    _render() {
      if (!this.view.length) return;
      const first = Math.floor(this.top / ROW_HEIGHT) - SPARE_ROWS;
      const last = first + Math.ceil(this.height / ROW_HEIGHT) + 2 * SPARE_ROWS;
      const wanted = new Set([this.active]);
      for (let i = Math.max(0, first); i <= Math.min(last, this.view.length - 1); i += 1) {
        wanted.add(i);
      }
      for (const [place, row] of this.rendered) {
        if (wanted.has(place)) continue;
        row.remove();
        this.rendered.delete(place);
      }
      for (const place of wanted) {
        if (!this.rendered.has(place)) this.rendered.set(place, this._makeRow(place));
        const row = this.rendered.get(place);
        row.classList.toggle('active', place === this.active);
        row.setAttribute('aria-selected', place === this.active ? 'true' : 'false');
      }
      this.root.setAttribute('aria-activedescendant', this._rowId(this.active));
    }

    _rowId(place) {
      return `comparison-${this.view[place]}`;
    }

    _makeRow(place) {
      const index = this.view[place];
      const row = HC.element('div', { role: 'row', class: 'row', id: this._rowId(place) });
      row.setAttribute('aria-rowindex', place + 2); // the heading is row 1
      row.dataset.place = place;
      row.style.transform = `translateY(${place * ROW_HEIGHT}px)`;
      this.columns.forEach((column, number) => {
        const value = this.comparisons.value(index, column.key);
        const shown = column.format ? column.format(value) : String(value);
        const extra = column.className && column.className(value);
        const attributes = { role: 'gridcell', 'aria-colindex': number + 1 };
        attributes.class = this._classes(column, extra);
        const cell = HC.element('div', attributes, shown);
        if (column.key === 'p') cell.style.setProperty('--p', value);
        row.append(cell);
      });
      this.body.append(row);
      return row;
    }

    _scrollToActive() {
      const top = this.active * ROW_HEIGHT;
      const room = this.root.clientHeight - this.head.offsetHeight;
      if (top < this.top) this.top = top;
      else if (top + ROW_HEIGHT > this.top + room) this.top = top + ROW_HEIGHT - room;
      this.root.scrollTop = this.top;
    }

    _listen() {
      let waiting = false;
      const renderSoon = () => {
        if (waiting) return;
        waiting = true;
        requestAnimationFrame(() => {
          waiting = false;
          this.top = this.root.scrollTop;
          this.height = window.innerHeight;
          this._render();
        });
      };
      this.root.addEventListener('scroll', renderSoon, { passive: true });
      window.addEventListener('resize', renderSoon);
      this.root.addEventListener('keydown', (event) => this._onKey(event));
      this.body.addEventListener('click', (event) => {
        const row = event.target.closest('[data-place]');
        if (!row) return;
        this.activate(Number(row.dataset.place));
        this.onOpen(this.active);
      });
    }

    _onKey(event) {
      // keys in a heading's button belong to the button
      if (event.target !== this.root || event.ctrlKey || event.metaKey || event.altKey) return;
      const page = Math.max(1, Math.floor(this.root.clientHeight / ROW_HEIGHT) - 2);
      const targets = {
        ArrowDown: this.active + 1,
        ArrowUp: this.active - 1,
        PageDown: this.active + page,
        PageUp: this.active - page,
        Home: 0,
        End: this.view.length - 1,
      };
      if (event.key in targets) this.activate(targets[event.key]);
      else if ((event.key === 'Enter' || event.key === ' ') && this.view.length) {
        this.onOpen(this.active);
      } else return;
      event.preventDefault();
    }
  };
})();
