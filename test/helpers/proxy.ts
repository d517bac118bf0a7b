import http from 'node:http';
import { type AddressInfo, connect } from 'node:net';

/** A proxy on this machine that opens tunnels. */
export async function startProxy(): Promise<{ url: string; tunnels: string[]; stop: () => void }> {
  const tunnels: string[] = [];
  const proxy = http.createServer().on('connect', (request, client, head) => {
    tunnels.push(request.url!);
    const [host, port] = request.url!.split(':');
    const upstream = connect(Number(port), host, () => {
      client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      upstream.write(head);
      upstream.pipe(client).pipe(upstream);
    });
    client.on('error', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, tunnels, stop: () => proxy.close() };
}
