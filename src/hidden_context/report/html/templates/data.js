// Reads what the page carries and answers questions about the comparisons.
//
// HC.readData()      DATA: the analyses and what the page says about its comparisons
// HC.decodePairs()   the comparisons, unpacked; null where the page has none
// HC.plotly()        Plotly, started at the first call
// HC.Comparisons     search, filters and order over the comparisons
// HC.element, HC.svg, HC.known, HC.number, HC.count, HC.span, HC.plain, HC.shorten   helpers
(function () {
  'use strict';

  const HC = (window.HC = window.HC || {});
  const SVG_NAMESPACE = 'http://www.w3.org/2000/svg';
  const NO_BREAK_SPACE = '\u00a0';
  const CONTESTED = { low: 0.35, high: 0.65 };

  function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    // Strings become text nodes: nothing of the data is ever parsed as markup.
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  /** Make an HTML element; children are nodes or text. */
  HC.element = function (tag, attributes, ...children) {
    return build(document.createElement(tag), attributes, children);
  };

  /** Make an SVG element; children are nodes or text. */
  HC.svg = function (tag, attributes, ...children) {
    return build(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
  };

  /** Whether there is a number; JSON has null where there is none. */
  HC.known = (value) => Number.isFinite(value);

  /** A number with a true minus sign, or a dash where there is none. */
  HC.number = function (value, digits) {
    if (!HC.known(value)) return '–';
    const text = value.toFixed(digits);
    return (Number(text) === 0 ? text.replace('-', '') : text).replace('-', '−');
  };

  /** "0.71 [0.68, 0.74]", or the estimate alone where it has no interval. */
  HC.span = function (interval, digits) {
    const show = (name) => HC.number(interval[name], digits);
    const ends = HC.known(interval.low) && HC.known(interval.high);
    return show('estimate') + (ends ? ` [${show('low')}, ${show('high')}]` : '');
  };

  /** Text for Plotly, which reads a little markup in its texts: data must stay text. */
  HC.plain = function (value) {
    return String(value).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
  };

  /** The same, cut to so many characters. */
  HC.shorten = function (value, length) {
    const characters = Array.from(String(value));
    return HC.plain(
      characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : value,
    );
  };

  /** A whole number with its thousands set apart. */
  HC.count = function (value) {
    return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, NO_BREAK_SPACE);
  };

  HC.readData = function () {
    const node = document.getElementById('data');
    return node ? JSON.parse(node.textContent) : { analyses: [], pairs: null };
  };

  /** Unpack base64 of gzip of JSON without a request, so that no connect-src is needed. */
  HC.decodePairs = async function () {
    const node = document.getElementById('pairs');
    if (!node) return null;
    const binary = atob(node.textContent.trim());
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return JSON.parse(await new Response(unpacked).text());
  };

  /**
   * Plotly, whose start takes longer than all else on the page: where it stands there as plain
   * text, it runs only once a chart is needed. The policy lets it by its checksum, as any script.
   */
  HC.plotly = function () {
    const source = document.getElementById('plotly');
    if (!window.Plotly && source) {
      document.head.append(HC.element('script', {}, source.textContent));
      source.remove();
    }
    return window.Plotly;
  };

  HC.Comparisons = class Comparisons {
    constructor(pairs) {
      this.pairs = pairs;
      this.size = pairs.row.length;
      this.texts = new Array(this.size); // what is searched, in lower case; filled when idle
      this.prompts = pairs.prompts.map((prompt) => prompt.toLowerCase());
      this.keys = new Map(); // column → sort keys
      this.built = 0;
    }

    /** Whether any comparison has a value in a column. */
    has(column) {
      const values = this.pairs[column];
      return Array.isArray(values) && values.some((value) => value !== null && value !== '');
    }

    value(index, column) {
      if (column === 'prompt') {
        const prompt = this.pairs.prompt[index];
        return prompt < 0 ? '' : this.pairs.prompts[prompt];
      }
      const values = this.pairs[column];
      return values ? values[index] : null;
    }

    /** The distinct values of a column with their numbers, in alphabetical order. */
    distinct(column) {
      const counts = new Map();
      for (const value of this.pairs[column]) {
        if (value !== null && value !== '') counts.set(value, (counts.get(value) || 0) + 1);
      }
      return [...counts].sort((a, b) => (a[0] < b[0] ? -1 : 1));
    }

    /** Lower-case a few thousand texts whenever the browser has nothing else to do. */
    buildWhenIdle() {
      const later = window.requestIdleCallback || ((work) => setTimeout(work, 20));
      later(() => {
        this._buildTexts(Math.min(this.built + 2000, this.size));
        if (this.built < this.size) this.buildWhenIdle();
      });
    }

    _buildTexts(end) {
      const { chosen, rejected, annotator } = this.pairs;
      for (; this.built < end; this.built += 1) {
        const i = this.built;
        const who = annotator && annotator[i] !== null ? annotator[i] : '';
        this.texts[i] = `${chosen[i]}\n${rejected[i]}\n${who}`.toLowerCase();
      }
    }

    /** Numbers that sort a column: the values, or the ranks of texts; null sorts last. */
    _sortKeys(column) {
      if (!this.keys.has(column)) {
        const values = Array.from({ length: this.size }, (_, i) => this.value(i, column));
        this.keys.set(column, values.some((v) => typeof v === 'string') ? ranks(values) : values);
      }
      return this.keys.get(column);
    }

    /** Every index in the order of a column; equal values keep the order of the file. */
    order(column, descending) {
      const keys = this._sortKeys(column);
      const sign = descending ? -1 : 1;
      const known = [];
      const unknown = [];
      for (let i = 0; i < this.size; i += 1) (keys[i] === null ? unknown : known).push(i);
      known.sort((a, b) => sign * (keys[a] - keys[b]) || a - b);
      return known.concat(unknown);
    }

    /**
     * Those of `order` that pass all filters.
     * filters: {search, subset, objective, context, right: 'right' | 'wrong', contested}; an
     * empty value lets everything through.
     */
    select(order, filters) {
      const { prompt, p, right } = this.pairs;
      const query = (filters.search || '').trim().toLowerCase();
      if (query) this._buildTexts(this.size);
      const hit = query ? this.prompts.map((text) => text.includes(query)) : [];
      const equal = ['subset', 'objective', 'context'].filter((name) => filters[name]);
      return order.filter((i) => {
        if (equal.some((name) => this.pairs[name][i] !== filters[name])) return false;
        if (filters.right === 'right' && right[i] !== 1) return false;
        if (filters.right === 'wrong' && right[i] !== 0) return false;
        if (filters.contested && !(p[i] >= CONTESTED.low && p[i] <= CONTESTED.high)) return false;
        return !query || hit[prompt[i]] || this.texts[i].includes(query);
      });
    }
  };

  /** The rank of each text among the distinct ones: comparing texts once makes sorting cheap. */
  function ranks(values) {
    const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
    const distinct = [...new Set(values.filter((value) => value !== null))];
    const sorted = distinct.sort((a, b) => collator.compare(a, b) || (a < b ? -1 : 1));
    const rank = new Map(sorted.map((value, place) => [value, place]));
    return values.map((value) => (value === null ? null : rank.get(value)));
  }
})();
