// The charts: Plotly traces for the numbers whose tables stand beside them.
//
// HC.charts.watch(analyses) draws each figure once it comes near the window, all of them before
// printing, and draws them anew when the theme changes.
(function () {
  'use strict';

  const HC = (window.HC = window.HC || {});
  const { plain, shorten, span } = HC;
  const CONFIG = { displayModeBar: false, responsive: true };
  const NARROW = 520; // px of a figure under which names are cut sooner
  const LABEL = [44, 18]; // px that a label takes

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

  function axis(colours, title, extra) {
    return {
      title: { text: title, standoff: 10, font: { size: 13 } },
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
      hoverlabel: { bgcolor: colours.paper, font: { color: colours.text } },
      margin: { l: 56, r: 20, t: 36, b: 52 },
      legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' },
      dragmode: false,
      ...extra,
    };
  }

  /** The two ends of an interval; where it has none, the estimate stands for both. */
  const endsOf = ({ estimate, low, high }) => [low ?? estimate, high ?? estimate];

  /** Error bars from intervals; each bar's two halves may differ, and no interval has no bar. */
  function bars(intervals, colour) {
    const whole = (each) => ['estimate', 'low', 'high'].every((end) => HC.known(each[end]));
    const reach = (each, length) => (whole(each) ? Math.max(0, length) : NaN);
    return {
      type: 'data',
      symmetric: false,
      array: intervals.map((each) => reach(each, each.high - each.estimate)),
      arrayminus: intervals.map((each) => reach(each, each.estimate - each.low)),
      color: colour,
      thickness: 1.5,
      width: 4,
    };
  }

  /** A line to compare with. */
  function dashed(x, y, name, colours) {
    const line = { color: colours.faint, dash: 'dash', width: 1.5 };
    return { x, y, name, line, mode: 'lines', hoverinfo: 'skip' };
  }

  function reliability(analysis, colours) {
    const bins = ((analysis.calibration || {}).bins || []).filter((bin) => bin.n > 0);
    if (!bins.length) return null;
    const intervals = bins.map(({ observed, observed_low: low, observed_high: high }) => {
      return { estimate: observed, low, high };
    });
    const diagonal = dashed([0.5, 1], [0.5, 1], 'perfectly calibrated', colours);
    const observed = {
      x: bins.map((bin) => bin.predicted),
      y: bins.map((bin) => bin.observed),
      error_y: bars(intervals, colours.series[0]),
      mode: 'lines+markers',
      name: 'observed',
      line: { color: colours.series[0], width: 2 },
      marker: { color: colours.series[0], size: 9 },
      hoverinfo: 'text',
      hovertext: bins.map((bin, i) => {
        const observed = `observed ${span(intervals[i], 3)}<br>${HC.count(bin.n)} pairs`;
        return `predicted ${HC.number(bin.predicted, 3)}<br>${observed}`;
      }),
    };
    const lowest = Math.min(0.45, ...intervals.map((each) => endsOf(each)[0]));
    const range = [Math.max(-0.02, lowest - 0.03), 1.04];
    const xaxis = axis(colours, 'P of the predicted side', { range: [0.48, 1.02] });
    const yaxis = axis(colours, 'how often it is preferred', { range });
    return { traces: [diagonal, observed], layout: layout(colours, { xaxis, yaxis }), height: 380 };
  }

  const MEASURES = { quantile: 'quantile', cvar: 'CVaR', mean: 'mean' };
  /** What the second or rejected response is: of responses nobody says that it is unsafe. */
  const unsafeTitle = (analysis) =>
    analysis.kind === 'responses' ? 'share of second at least as high' : 'share of unsafe preferred';
  /** Accuracy against unsafe preferences; where only one of them is known, that against α. */
  function frontier(analysis, colours, width) {
    const points = analysis.frontier || [];
    const both = points.filter((point) => point.unsafe && point.accuracy);
    if (both.length) {
      return {
        traces: frontierTraces(both, 'unsafe', 'accuracy', colours, width),
        layout: layout(colours, {
          xaxis: axis(colours, unsafeTitle(analysis)),
          yaxis: axis(colours, 'accuracy'),
        }),
        height: 420,
      };
    }
    const known = points.some((point) => point.unsafe) ? 'unsafe' : 'accuracy';
    const shown = points.filter((point) => point[known] && point.alpha !== null);
    if (!shown.length) return null;
    const alphas = [...new Set(shown.map((point) => point.alpha))].sort((a, b) => a - b);
    const traces = frontierTraces(shown, null, known, colours);
    const mean = points.find((point) => point.alpha === null && point[known]);
    if (mean) {
      const ends = [alphas[0], alphas[alphas.length - 1]];
      const level = [mean[known].estimate, mean[known].estimate];
      traces.push(dashed(ends, level, `mean ${span(mean[known], 3)}`, colours));
    }
    const x = axis(colours, 'α, smaller is more cautious', { type: 'log', tickvals: alphas });
    const y = axis(colours, known === 'unsafe' ? unsafeTitle(analysis) : 'accuracy');
    return { traces, layout: layout(colours, { xaxis: x, yaxis: y }), height: 400 };
  }

  /** One series for each measure; the horizontal axis is an interval, or α for null. */
  function frontierTraces(points, horizontal, vertical, colours, width) {
    const labelled = horizontal ? apart(points, [horizontal, vertical], [width, 300]) : new Set();
    return [...new Set(points.map((point) => point.measure))].map((measure, place) => {
      const own = points.filter((point) => point.measure === measure);
      own.sort((a, b) => a.alpha - b.alpha);
      const colour = colours.series[place % colours.series.length];
      const y = own.map((point) => point[vertical]);
      return {
        x: own.map((point) => (horizontal ? point[horizontal].estimate : point.alpha)),
        y: y.map((each) => each.estimate),
        error_x: horizontal ? bars(own.map((point) => point[horizontal]), `${colour}59`) : undefined,
        error_y: bars(y, horizontal ? `${colour}59` : colour), // pale where they cross
        mode: 'lines+markers+text',
        text: own.map((point) => (labelled.has(point) ? String(point.alpha ?? 'mean') : '')),
        textposition: ['top center', 'bottom right', 'top left'][place % 3],
        textfont: { size: 12, color: colours.text },
        name: plain(MEASURES[measure] || measure),
        line: { color: colour, width: 2, dash: place % 2 ? 'dot' : 'solid' },
        marker: { color: colour, size: 8, symbol: ['circle', 'diamond', 'square'][place % 3] },
        hoverinfo: 'text',
        hovertext: own.map((point) => {
          const known = ['unsafe', 'accuracy'].filter((name) => point[name]);
          const lines = known.map((name) => `${name} ${span(point[name], 3)}`);
          return [plain(point.name), ...lines].join('<br>');
        }),
      };
    });
  }

  /** Points far enough from each other for their labels not to run into one another. */
  function apart(points, axes, pixels) {
    const scales = axes.map((name, i) => {
      const ends = points.flatMap((each) => endsOf(each[name]));
      return pixels[i] / (Math.max(...ends) - Math.min(...ends) || 1);
    });
    const distance = (a, b, i) => scales[i] * Math.abs(a[axes[i]].estimate - b[axes[i]].estimate);
    const near = (a, b) => distance(a, b, 0) < LABEL[0] && distance(a, b, 1) < LABEL[1];
    const kept = [];
    for (const point of points) if (!kept.some((each) => near(point, each))) kept.push(point);
    return new Set(kept);
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

  /** "subset harmless, objective helpful"; of several labels only the values where it is narrow. */
  function groupName(labels, narrow) {
    const parts = Object.entries(labels);
    if (parts.length > 1 && narrow) return parts.map((part) => part[1]).join(' · ');
    const named = parts.map(([column, value]) => `${column.replace(/^data_/, '')} ${value}`);
    return named.join(', ') || 'all rows';
  }

  function groups(analysis, colours, width) {
    const series = [
      { key: 'r2', name: 'r²', shift: -0.13, symbol: 'circle' },
      { key: 'r2_within', name: 'r² within', shift: 0.13, symbol: 'diamond' },
    ];
    const known = (group, key) => {
      const found = group.intervals && group.intervals[key];
      return found && HC.known(found.estimate) ? found : null;
    };
    const shown = (analysis.groups || []).filter((group) =>
      series.some(({ key }) => known(group, key)),
    );
    if (!shown.length) return null;
    const names = shown.map((group) => groupName(group.labels, width < NARROW));
    const traces = series.map(({ key, name, shift, symbol }, place) => {
      const points = shown
        .map((group, i) => [known(group, key), i])
        .filter(([each]) => each);
      const colour = colours.series[place];
      return {
        x: points.map(([each]) => each.estimate),
        y: points.map(([, i]) => i + shift),
        error_x: bars(points.map(([each]) => each), colour),
        mode: 'markers',
        name,
        marker: { color: colour, size: 9, symbol },
        hoverinfo: 'text',
        hovertext: points.map(([each, i]) => `${plain(names[i])}<br>${name} ${span(each, 3)}`),
      };
    });
    return {
      traces: traces.filter((trace) => trace.x.length),
      layout: layout(colours, {
        xaxis: axis(colours, 'variance explained', { rangemode: 'tozero' }),
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
        xaxis: axis(colours, '% of the variance', { range: [0, 1.15 * Math.max(...shares)] }),
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
    HC.plotly().react(plot, chart.traces, chart.layout, CONFIG);
  }

  function watch(analyses) {
    const figures = [...document.querySelectorAll('figure[data-chart]')];
    const drawn = (figure) => figure.dataset.drawn === 'true';
    const drawThose = (test) => figures.filter(test).forEach((each) => draw(each, analyses));
    const drawRest = () => drawThose((each) => !drawn(each));
    document.addEventListener('hc:theme', () => drawThose(drawn));
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
      { rootMargin: '300px 0px' },
    );
    figures.forEach((figure) => observer.observe(figure));
  }

  HC.charts = { watch };
})();
