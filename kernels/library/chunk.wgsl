// Chunk: a stretch of the vocabulary whose logits exist at a time.

struct Chunk {
  first: u32,     // token of column 0
  columns: u32,   // without padding
  is_first: u32,  // 1 for the first chunk: there is no state yet
  unused: u32,
}
