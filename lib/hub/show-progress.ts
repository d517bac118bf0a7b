import { statusLine } from '../status-line';
import { download, type DownloadOptions } from './download';

/** As `download`, with a line on stderr that shows how far it is, if stderr is a terminal. */
export async function downloadShowing(reference: string, options: DownloadOptions = {}): Promise<string> {
  let [bytes, totalBytes] = [0, 0];
  const line = statusLine(() => `${reference}: ${megabytes(bytes)} of ${megabytes(totalBytes)} MB`);
  const onProgress: DownloadOptions['onProgress'] = (progress) => {
    ({ bytes, totalBytes } = progress);
    line.draw();
  };
  try {
    return await download(reference, { ...options, onProgress });
  } finally {
    line.end();
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
