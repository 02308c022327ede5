// A row of the results was written if there is what its number names: a row of the weight, or an
// expert.

@group(0) @binding(6) var<storage, read> list: array<u32>;  // [n] from params.list on

fn is_written(row: u32) -> bool {
    return list[params.list + row] < params.exist;
}
