export function withFaultyQueue(device: GPUDevice, isLost: (submission: number) => boolean): GPUDevice;
