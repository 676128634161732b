// The charts: Plotly traces for the numbers whose tables stand beside them.
//
// HC.charts.watch(analyses) draws each figure once it comes near the window, all of them before
// printing, and draws them anew when the theme changes.
(function () {
  'use strict';

  const HC = (window.HC = window.HC || {});
  const CONFIG = { displayModeBar: false, responsive: true };
  const NARROW = 520; // px of a figure under which names are cut sooner

  /** Colours of the page as Plotly needs them; read anew at every drawing. */
  function palette() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    return {
      text: read('--text'),
      faint: read('--muted'),
      line: read('--line'),
      paper: read('--surface'),
      series: [1, 2, 3, 4].map((number) => read(`--series-${number}`)),
    };
  }

  /** Plotly reads a little markup in its texts; data must stay text. */
  function plain(value) {
    return String(value).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
  }

  function shorten(value, length) {
    const characters = Array.from(String(value));
    return plain(characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : value);
  }

  function axis(colours, title, extra) {
    return {
      title: { text: title, standoff: 10 },
      color: colours.text,
      gridcolor: colours.line,
      linecolor: colours.line,
      zeroline: false,
      automargin: true,
      ...extra,
    };
  }

  function layout(colours, extra) {
    return {
      paper_bgcolor: 'rgba(0,0,0,0)',
      plot_bgcolor: 'rgba(0,0,0,0)',
      font: { family: 'system-ui, sans-serif', size: 13, color: colours.text },
      hoverlabel: { bgcolor: colours.paper, bordercolor: colours.line, font: { color: colours.text } },
      margin: { l: 56, r: 20, t: 36, b: 52 },
      legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' },
      dragmode: false,
      ...extra,
    };
  }

  /** Error bars from intervals; each bar's two halves may differ. */
  function bars(intervals, colour) {
    return {
      type: 'data',
      symmetric: false,
      array: intervals.map((each) => Math.max(0, each.high - each.estimate)),
      arrayminus: intervals.map((each) => Math.max(0, each.estimate - each.low)),
      color: colour,
      thickness: 1.5,
      width: 4,
    };
  }

  function span(interval, digits) {
    const [value, low, high] = ['estimate', 'low', 'high'].map((k) => HC.number(interval[k], digits));
    return `${value} [${low}, ${high}]`;
  }

  function reliability(analysis, colours) {
    const bins = ((analysis.calibration || {}).bins || []).filter(
      (bin) => bin.n > 0 && bin.observed !== null && bin.predicted !== null,
    );
    if (!bins.length) return null;
    const intervals = bins.map((bin) => ({
      estimate: bin.observed,
      low: bin.observed_low ?? bin.observed,
      high: bin.observed_high ?? bin.observed,
    }));
    const diagonal = {
      x: [0.5, 1],
      y: [0.5, 1],
      mode: 'lines',
      name: 'perfectly calibrated',
      line: { color: colours.faint, dash: 'dash', width: 1.5 },
      hoverinfo: 'skip',
    };
    const observed = {
      x: bins.map((bin) => bin.predicted),
      y: bins.map((bin) => bin.observed),
      error_y: bars(intervals, colours.series[0]),
      mode: 'lines+markers',
      name: 'observed',
      line: { color: colours.series[0], width: 2 },
      marker: { color: colours.series[0], size: 9 },
      hoverinfo: 'text',
      hovertext: bins.map(
        (bin, i) =>
          `predicted ${HC.number(bin.predicted, 3)}<br>observed ${span(intervals[i], 3)}` +
          `<br>${HC.count(bin.n)} pairs`,
      ),
    };
    const lowest = Math.min(0.45, ...intervals.map((each) => each.low));
    return {
      traces: [diagonal, observed],
      layout: layout(colours, {
        xaxis: axis(colours, 'predicted probability of the preferred side', { range: [0.48, 1.02] }),
        yaxis: axis(colours, 'share ranked as labelled', {
          range: [Math.max(-0.02, lowest - 0.03), 1.04],
        }),
      }),
      height: 380,
    };
  }

  const MEASURES = { quantile: 'quantile', cvar: 'CVaR', mean: 'mean' };

  function frontier(analysis, colours) {
    const points = (analysis.frontier || []).filter((point) => point.unsafe);
    if (!points.length) return null;
    const judged = points.some((point) => point.accuracy);
    const names = [...new Set(points.map((point) => point.measure))];
    const traces = names.map((measure, place) => {
      const own = points.filter((each) => each.measure === measure && (!judged || each.accuracy));
      own.sort((a, b) => a.alpha - b.alpha);
      const colour = colours.series[place % colours.series.length];
      const unsafe = bars(own.map((each) => each.unsafe), colour);
      return {
        x: own.map((each) => (judged ? each.unsafe.estimate : each.alpha)),
        y: own.map((each) => (judged ? each.accuracy.estimate : each.unsafe.estimate)),
        ...(judged
          ? { error_x: unsafe, error_y: bars(own.map((each) => each.accuracy), colour) }
          : { error_y: unsafe }),
        mode: judged ? 'lines+markers+text' : 'lines+markers',
        text: own.map((each) => (judged ? String(each.alpha) : '')),
        textposition: place % 2 ? 'bottom right' : 'top left',
        textfont: { size: 11, color: colours.text },
        name: plain(MEASURES[measure] || measure),
        line: { color: colour, width: 2, dash: place % 2 ? 'dot' : 'solid' },
        marker: { color: colour, size: 8, symbol: place % 2 ? 'diamond' : 'circle' },
        hoverinfo: 'text',
        hovertext: own.map(
          (each) =>
            `${plain(each.name)}<br>unsafe ${span(each.unsafe, 3)}` +
            (each.accuracy ? `<br>accuracy ${span(each.accuracy, 3)}` : ''),
        ),
      };
    });
    const unsafeTitle = 'share of unsafe choices';
    return {
      traces,
      layout: layout(colours, {
        xaxis: judged ? axis(colours, unsafeTitle) : axis(colours, 'α', { type: 'log' }),
        yaxis: axis(colours, judged ? 'accuracy' : unsafeTitle),
      }),
      height: 400,
    };
  }

  /** A vertical axis of names, the first on top. */
  function nameAxis(colours, names, width) {
    return axis(colours, '', {
      tickvals: names.map((_, i) => i),
      ticktext: names.map((name) => shorten(name, width < NARROW ? 20 : 44)),
      range: [names.length - 0.4, -0.6],
      showgrid: false,
    });
  }

  function groups(analysis, colours, width) {
    const series = [
      { key: 'r2', name: 'r²', shift: -0.13, symbol: 'circle' },
      { key: 'r2_within', name: 'r² within', shift: 0.13, symbol: 'diamond' },
    ];
    const shown = (analysis.groups || []).filter((group) =>
      series.some(({ key }) => group.intervals && group.intervals[key]),
    );
    if (!shown.length) return null;
    const names = shown.map((group) => Object.values(group.labels).join(' · ') || 'all rows');
    const traces = series.map(({ key, name, shift, symbol }, place) => {
      const known = shown.map((group, i) => [group.intervals[key], i]).filter(([each]) => each);
      const colour = colours.series[place];
      return {
        x: known.map(([each]) => each.estimate),
        y: known.map(([, i]) => i + shift),
        error_x: bars(known.map(([each]) => each), colour),
        mode: 'markers',
        name,
        marker: { color: colour, size: 9, symbol },
        hoverinfo: 'text',
        hovertext: known.map(([each, i]) => `${plain(names[i])}<br>${name} ${span(each, 3)}`),
      };
    });
    return {
      traces: traces.filter((trace) => trace.x.length),
      layout: layout(colours, {
        xaxis: axis(colours, 'share of variance explained', { rangemode: 'tozero' }),
        yaxis: nameAxis(colours, names, width),
      }),
      height: 150 + 44 * names.length,
    };
  }

  function contexts(analysis, colours, width) {
    const clusters = (analysis.contexts || {}).clusters || [];
    if (!clusters.length) return null;
    const shares = clusters.map((cluster) => 100 * cluster.variance_share);
    const trace = {
      type: 'bar',
      orientation: 'h',
      x: shares,
      y: clusters.map((_, i) => i),
      marker: { color: colours.series[0] },
      text: shares.map((share) => `${HC.number(share, 1)} %`),
      textposition: 'outside',
      textfont: { color: colours.text },
      cliponaxis: false,
      hoverinfo: 'text',
      hovertext: clusters.map(
        (each, i) =>
          `${plain(each.name)}<br>${HC.number(shares[i], 1)} % of the variance` +
          `<br>${HC.count(each.prompts)} prompts`,
      ),
    };
    return {
      traces: [trace],
      layout: layout(colours, {
        xaxis: axis(colours, 'share of the variance, %', { range: [0, 1.15 * Math.max(...shares, 1)] }),
        yaxis: nameAxis(colours, clusters.map((each) => each.name), width),
        bargap: 0.35,
        margin: { l: 56, r: 40, t: 8, b: 52 },
      }),
      height: 90 + 34 * clusters.length,
    };
  }

  const CHARTS = { reliability, frontier, groups, contexts };

  function draw(figure, analyses) {
    const plot = figure.querySelector('.plot');
    const make = CHARTS[figure.dataset.chart];
    const analysis = analyses[Number(figure.dataset.index)];
    const chart = make && analysis ? make(analysis, palette(), plot.clientWidth) : null;
    if (!chart) {
      figure.hidden = true; // nothing to draw: the table says so
      return;
    }
    plot.style.height = `${chart.height}px`;
    figure.dataset.drawn = 'true';
    window.Plotly.react(plot, chart.traces, chart.layout, CONFIG);
  }

  function watch(analyses) {
    const figures = [...document.querySelectorAll('figure[data-chart]')];
    if (!window.Plotly || !figures.length) return;
    const drawn = (figure) => figure.dataset.drawn === 'true';
    const drawRest = () => figures.filter((each) => !drawn(each)).forEach((each) => draw(each, analyses));
    const redraw = () => figures.filter(drawn).forEach((each) => draw(each, analyses));
    document.addEventListener('hc:theme', redraw);
    window.addEventListener('beforeprint', drawRest);
    if (!('IntersectionObserver' in window)) {
      drawRest();
      return;
    }
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          observer.unobserve(target);
          if (!drawn(target)) draw(target, analyses);
        }
      },
      { rootMargin: '400px 0px' },
    );
    figures.forEach((figure) => observer.observe(figure));
  }

  HC.charts = { watch };
})();
