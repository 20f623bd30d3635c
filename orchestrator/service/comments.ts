import type {
  DescEnum,
  DescEnumValue,
  DescField,
  DescFile,
  DescMessage,
  DescMethod,
  DescService,
} from '@bufbuild/protobuf';

/** What a comment may stand above. */
export type Commented = DescEnum | DescEnumValue | DescField | DescMessage | DescMethod | DescService;

const commentsByFile = new WeakMap<DescFile, ReadonlyMap<string, string>>();

/** The comment above a definition of the contract, as one paragraph; empty where there is none. */
export function commentOf(desc: Commented): string {
  const file = fileOf(desc);
  let comments = commentsByFile.get(file);
  if (comments === undefined) {
    const locations = file.proto.sourceCodeInfo?.location ?? [];
    comments = new Map(locations.map(({ path, leadingComments }) => [path.join(), leadingComments]));
    commentsByFile.set(file, comments);
  }
  return (comments.get(pathOf(desc).join()) ?? '').trim().replace(/\s+/g, ' ');
}

function fileOf(desc: Commented): DescFile {
  return 'file' in desc ? desc.file : desc.parent.file;
}

/** Field numbers and indices that lead to a definition within its file. Source: google/protobuf/descriptor.proto, SourceCodeInfo.Location. */
function pathOf(desc: Commented): number[] {
  switch (desc.kind) {
    case 'message':
      return desc.parent
        ? [...pathOf(desc.parent), 3, desc.parent.proto.nestedType.indexOf(desc.proto)]
        : [4, desc.file.proto.messageType.indexOf(desc.proto)];
    case 'enum':
      return desc.parent
        ? [...pathOf(desc.parent), 4, desc.parent.proto.enumType.indexOf(desc.proto)]
        : [5, desc.file.proto.enumType.indexOf(desc.proto)];
    case 'service':
      return [6, desc.file.proto.service.indexOf(desc.proto)];
    case 'field':
      return [...pathOf(desc.parent), 2, desc.parent.proto.field.indexOf(desc.proto)];
    case 'enum_value':
      return [...pathOf(desc.parent), 2, desc.parent.proto.value.indexOf(desc.proto)];
    case 'rpc':
      return [...pathOf(desc.parent), 2, desc.parent.proto.method.indexOf(desc.proto)];
  }
}
