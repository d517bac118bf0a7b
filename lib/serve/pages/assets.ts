import { uplot } from '../../train/metrics/page';
import { chartScript, pageStyle } from '../../train/metrics/page-script';
import { commonScript } from './common-script';
import { playgroundHtml, runsHtml } from './html';
import { playgroundScript } from './playground-script';
import { runsScript } from './runs-script';
import { siteStyle } from './style';

export interface Asset {
  url: string;
  type: string;
  text: string;
}

/** The pages, and all that they load. */
export function assets(hasKeys: boolean): Asset[] {
  const { script, style } = uplot();
  const of =
    (type: string) =>
    (url: string, text: string): Asset => ({ url, type: `${type}; charset=utf-8`, text });
  const [html, css, javascript] = [of('text/html'), of('text/css'), of('text/javascript')];
  return [
    html('/', playgroundHtml(hasKeys)),
    html('/runs', runsHtml(hasKeys)),
    css('/assets/style.css', style + pageStyle + siteStyle),
    javascript('/assets/uplot.js', script),
    javascript('/assets/playground.js', commonScript + playgroundScript),
    javascript('/assets/runs.js', commonScript + chartScript + runsScript),
  ];
}
