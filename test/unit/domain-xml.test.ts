// Goal: a domain's XML is read right, what we write back is what libvirt wrote, and garbage is refused in words.
// Method: a dump of a running libvirt 9.0 guest (shortened), expectations read off it by hand; tables of malformed
// documents; every prefix of the dump and 2,000 seeded mutations of it must read or be refused, never anything else.
import t from 'tap';
import {
  balloonMaxKib,
  DomainXmlError,
  instructionCounterFile,
  readDomainXml,
  virtioMemXml,
} from '../../libvirt-adapter/domain-xml.ts';
import { escapeXml, parseXml, writeXml, XML_DEPTH_MAX, XmlError } from '../../libvirt-adapter/xml.ts';
import { randomFrom } from '../random.ts';

const DUMP = `<?xml version='1.0'?>
<!-- written by libvirt -->
<domain type='qemu' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>a &amp; b</name>
  <uuid>063558A0-4c4a-47ae-8c7e-ceaf1a639310</uuid>
  <maxMemory slots='4' unit='KiB'>4325376</maxMemory>
  <memory unit='KiB'>655360</memory>
  <currentMemory unit='KiB'>131072</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <cputune>
    <period>50000</period>
    <quota>25000</quota>
    <global_period>100000</global_period>
    <global_quota>-1</global_quota>
  </cputune>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
  <cpu mode='custom'><numa><cell id='0' cpus='0-3' memory='131072' unit='KiB'/></numa></cpu>
  <devices>
    <disk type='file' device='disk'>
      <source file='/d.raw' index='1'/>
      <target dev='vda' bus='virtio'/>
      <iotune><read_bytes_sec>1000000</read_bytes_sec><group_name>g</group_name></iotune>
    </disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
    <interface type='bridge'>
      <mac address='52:54:00:23:70:f0'/>
      <bandwidth><inbound average='1000' peak='5000'/></bandwidth>
      <target dev='vnet0'/>
    </interface>
    <interface type='user'><mac address='52:54:00:23:70:f1'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <memballoon model='virtio'><stats period='1'/></memballoon>
    <memory model='dimm'><target><size unit='KiB'>0</size></target></memory>
    <memory model='virtio-mem'>
      <source><nodemask>0-1</nodemask></source>
      <target>
        <size unit='KiB'>524288</size>
        <node>0</node>
        <block unit='KiB'>2048</block>
        <requested unit='KiB'>65536</requested>
        <current unit='KiB'>32768</current>
      </target>
      <alias name='virtiomem0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x06' function='0x0'/>
    </memory>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-plugin'/>
    <qemu:arg value='file=/p/icount.so,out=/run/a,,b/count'/>
  </qemu:commandline>
</domain>
`;

t.test('a running guest', async (t) => {
  const domain = readDomainXml(DUMP);
  t.match(domain, {
    uuid: '063558a0-4c4a-47ae-8c7e-ceaf1a639310',
    name: 'a & b',
    type: 'qemu',
    vcpusMax: 4,
    vcpusPlugged: 2,
    memoryKib: 655360,
    currentMemoryKib: 131072,
    cpuTune: { globalQuotaUs: -1, globalPeriodUs: 100000, vcpuQuotaUs: 25000, vcpuPeriodUs: 50000 },
    hasBalloon: true,
    agent: 'connected',
  });
  t.strictSame(domain.disks, [
    {
      target: 'vda',
      ioTune: {
        total_bytes_sec: 0,
        read_bytes_sec: 1_000_000,
        write_bytes_sec: 0,
        total_iops_sec: 0,
        read_iops_sec: 0,
        write_iops_sec: 0,
      },
    },
  ]);
  t.match(domain.interfaces, [
    { type: 'bridge', target: 'vnet0', inboundAverage: 1000, outboundAverage: 0 },
    { type: 'user', target: undefined },
  ]);
  t.match(domain.virtioMem, [
    { alias: 'virtiomem0', sizeKib: 524288, blockKib: 2048, requestedKib: 65536, currentKib: 32768 },
  ]);
  t.equal(balloonMaxKib(domain), 131072);
  t.equal(instructionCounterFile(domain), '/run/a,b/count', 'QEMU writes a comma as two');
});

t.test('a device is written back as it was, but for what is asked', async (t) => {
  const [device] = readDomainXml(DUMP).virtioMem;
  if (device === undefined) throw new Error('no device');
  const written = virtioMemXml(device, 131072);
  t.match(written, /<requested unit='KiB'>131072<\/requested>/);
  t.match(written, /<nodemask>0-1<\/nodemask>/);
  t.match(written, /slot='0x06'/);
  const again = DUMP.replace(/<memory model='virtio-mem'>[\s\S]*?<\/memory>/, written);
  t.equal(readDomainXml(again).virtioMem[0]?.requestedKib, 131072);
});

t.test('text survives writing and reading', async (t) => {
  const awkward = `<&>'"]]>é 😀`;
  const element = parseXml(`<a b='${escapeXml(awkward)}'>${escapeXml(awkward)}</a>`);
  t.equal(element.attributes.b, awkward);
  t.equal(element.text, awkward);
  t.strictSame(parseXml(writeXml(element)), element);
  t.equal(parseXml('<a>&#65;&#x42;<![CDATA[<&>]]></a>').text, 'AB<&>');
});

t.test('what is not well formed is refused, with the place', async (t) => {
  for (const [source, message] of [
    ['', /expected/],
    ['no xml', /expected/],
    ['<a>', /<a> is not closed/],
    ['<a></b>', /closes nothing/],
    ['<a/><b/>', /after the root/],
    ['<a b=c/>', /quoted/],
    ['<a b="1" b="2"/>', /twice/],
    ['<a b="1"c="2"/>', /space/],
    ['<a b="<"/>', /inside an attribute/],
    ['<a>&nbsp;</a>', /entity/],
    ['<a>& b</a>', /entity/],
    ['<a>&#xD800;</a>', /entity/],
    ['<a>&#0;</a>', /entity/],
    ['<a>&constructor;</a>', /entity/],
    ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', /name expected/],
    ['<a><!-- never closed</a>', /comment is not closed/],
    ['<1/>', /name expected/],
    ['<a>'.repeat(XML_DEPTH_MAX + 1), /nested deeper/],
  ] as const) {
    t.throws(() => parseXml(source), { name: 'XmlError', message }, source.slice(0, 40));
  }
  const { attributes } = parseXml('<a __proto__="1"/>');
  t.strictSame(Object.entries(attributes), [['__proto__', '1']], 'an attribute is only an attribute');
});

t.test('what is well formed and no domain is refused', async (t) => {
  for (const [source, message] of [
    ['<network/>', /<network>, not <domain>/],
    [DUMP.replace(/<uuid>.*<\/uuid>/, ''), /<uuid> is missing/],
    [DUMP.replace('<memory unit=', '<memry unit=').replace('</memory>', '</memry>'), /<memory> is missing/],
    [DUMP.replace("<memory unit='KiB'>655360", "<memory unit='furlong'>655360"), /unknown unit/],
    [DUMP.replace('>655360<', '>many<'), /whole number/],
    [DUMP.replace("current='2'", "current='-'"), /whole number/],
  ] as const) {
    t.throws(() => readDomainXml(source), { name: 'DomainXmlError', message }, String(message));
  }
});

t.test('damage is refused or read, never anything else', async (t) => {
  const seed = 7;
  t.comment(`seed ${seed}`);
  const random = randomFrom(seed);
  const damaged = Array.from({ length: DUMP.length }, (_, i) => DUMP.slice(0, i));
  for (let i = 0; i < 2000; i += 1) {
    const at = Math.floor(random() * DUMP.length);
    const char = '<>&\'"/= \0x'[Math.floor(random() * 10)] ?? '';
    damaged.push(DUMP.slice(0, at) + char + DUMP.slice(at + Math.floor(random() * 3)));
  }
  const strange = damaged.filter((source) => {
    try {
      readDomainXml(source);
      return false;
    } catch (error) {
      return !(error instanceof XmlError || error instanceof DomainXmlError);
    }
  });
  t.strictSame(strange, []);
});
