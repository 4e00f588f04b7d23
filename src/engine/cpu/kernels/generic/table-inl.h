// The kernel table of an ISA that overrides nothing. Included last inside an ISA namespace.

inline constexpr KernelTable kTable = {
    .isa = kIsaName,
    .f32 = {pack_a<PanelF32, false>, packed_a_bytes<PanelF32>, kRowGroup, gemm<PanelF32>},
    .bf16_f32 = {pack_a<PanelBf16, false>, packed_a_bytes<PanelBf16>, kRowGroup, gemm<PanelBf16>},
    .bf16 = {pack_a<PanelBf16, true>, packed_a_bytes<PanelBf16>, kRowGroup, gemm<PanelBf16>},
    .dot_rows_f32 = dot_rows<float>,
    .dot_rows_bf16 = dot_rows<BF16>,
    .mix_rows_f32 = mix_rows<float>,
    .mix_rows_bf16 = mix_rows<BF16>,
    .exp_row = exp_row,
    .scale_row = scale_row,
    .rms_norm_row = rms_norm_row,
    .layer_norm_row = layer_norm_row,
    .add_row = add_row,
    .add_scaled_row = add_scaled_row,
    .gelu_tanh_row = gelu_tanh_row,
    .silu_mul_row = silu_mul_row,
    .to_bf16_row = to_bf16_row,
    .peak_f32 = peak_f32,
    .peak_bf16 = nullptr,
    .read_memory = read_memory,
};
