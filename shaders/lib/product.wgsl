// The parameters of a kernel that multiplies. Mirrored by `Params` in src/kernel/op/product.rs; a
// test compares the two.

struct Params {
    plane_offset: vec4<u32>,  // first word of each plane
    plane_stride: vec4<u32>,  // words from one row of the plane to the next
    rows: u32,          // rows of this shard of w, or of one expert
    cols: u32,          // k
    row_groups: u32,    // workgroups along the rows; the folded grid runs over these first, then over the tokens
    chunk_begin: u32,   // chunks of 32 features that this dispatch sums: begin .. end
    chunk_end: u32,
    splits: u32,        // parts of these, each summed by other workgroups
    split_chunks: u32,  // chunks of one
    split_stride: u32,  // elements of y from one to the next
    accumulate: u32,    // 1: add to y, 0: overwrite
    finish: u32,        // 1: this is the last of the chunks
    x_offset: u32,      // element of x where token 0 starts
    x_stride: u32,      // elements from one token to the next
    y_offset: u32,      // element of y for row 0, token 0
    y_stride: u32,
    gate_offset: u32,   // the same of `gate`, where there is one
    gate_stride: u32,
    list: u32,          // word of `list` where the numbers of features are, if they are listed
    expert_begin: u32,  // first expert of this shard
    expert_count: u32,  // experts of it
    experts: u32,       // experts of all shards
    per: u32,           // columns of y for one token
}

@group(0) @binding(0) var<uniform> params: Params;
