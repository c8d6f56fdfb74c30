/**
 * A device whose queue loses what `isLost` says of a number and a count: the submissions so far, from 0 on, and the command
 * buffers in this one. It loses them as a driver does that kills work and reports it as done. Also read by test/cli, where
 * nothing translates TypeScript.
 *
 * @param {GPUDevice} device
 * @param {(submission: number) => boolean} isLost
 * @returns {GPUDevice}
 */
export function withFaultyQueue(device, isLost) {
  let submissions = 0;
  const bound = (target, name) => {
    const value = target[name];
    return typeof value === "function" ? value.bind(target) : value;
  };
  const queue = new Proxy(device.queue, {
    get: (target, name) => {
      if (name !== "submit") return bound(target, name);
      return (buffers) => target.submit(buffers.length > 0 && isLost(submissions++) ? [] : buffers);
    },
  });
  return new Proxy(device, { get: (target, name) => (name === "queue" ? queue : bound(target, name)) });
}
