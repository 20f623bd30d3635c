/** What the lab suggests to a service that manages its guests. */
export const LAB_HOST_POLICY = {
  /** Three sold for one: the lab's guests are mostly idle, and a small host still has room for several. */
  cpuOvercommit: 3.0,
  /** None: the guests' memory is backed in full. */
  memoryOvercommit: 1.0,
  /** A lab's guests are about as large as its host: what they could use together tells nothing. */
  admitBy: 'promises',
  reservedCpuMillicores: 200,
  reservedMemoryMib: 1024,
} as const;

/** The policy in one line, for a person. */
export function describeHostPolicy(): string {
  const { cpuOvercommit, memoryOvercommit, reservedCpuMillicores, reservedMemoryMib } = LAB_HOST_POLICY;
  return (
    `the lab sells CPU ${cpuOvercommit}:1 and memory ${memoryOvercommit}:1, ` +
    `and keeps ${reservedCpuMillicores} millicores and ${reservedMemoryMib} MiB for the host`
  );
}

/** A service configuration, TOML, for the lab at that libvirt URI. */
export function labServiceConfig(uri: string): string {
  return `# ${describeHostPolicy()}
[libvirt]
uri = "${uri}"

[host.overcommit]
cpu = ${LAB_HOST_POLICY.cpuOvercommit.toFixed(1)}
memory = ${LAB_HOST_POLICY.memoryOvercommit.toFixed(1)}
admit_by = "${LAB_HOST_POLICY.admitBy}"

[host.reserved]
cpu_millicores = ${LAB_HOST_POLICY.reservedCpuMillicores}
memory_mib = ${LAB_HOST_POLICY.reservedMemoryMib}
`;
}
