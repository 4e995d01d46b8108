"""How the page looks everywhere: its colors, its type, and its styles, one file per tab or component."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

FOLDER = Path(__file__).parent
CSS = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.css")))


def theme() -> gr.themes.Base:
    """Return the theme: Gradio's default with one accent, and with contrast that meets WCAG AA in light and dark."""
    base = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )  # fmt: skip
    return base.set(
        # 4.8:1 on white, where Gradio's neutral-400 has 2.6:1
        body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500",
        input_placeholder_color="*neutral_500",
        block_label_text_color="*neutral_600", block_title_text_color="*neutral_600",
        body_text_color_subdued_dark="*neutral_400", block_info_text_color_dark="*neutral_400",
        input_placeholder_color_dark="*neutral_400",
        # white on it: 5.2:1, where blue-500 has 3.7:1
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600", button_primary_background_fill_hover_dark="*primary_700",
        # secondary buttons have an outline, and no slab of grey
        button_secondary_background_fill="transparent", button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="transparent", button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300", button_secondary_border_color_dark="*neutral_600",
        # white on it: 4.8:1
        button_cancel_background_fill="#dc2626", button_cancel_background_fill_hover="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c", button_cancel_background_fill_hover_dark="#991b1b",
        button_cancel_border_color="#dc2626", button_cancel_border_color_dark="#b91c1c",
        button_cancel_text_color="white", button_cancel_text_color_dark="white",
        button_border_width="1px", button_border_width_dark="1px",
        button_primary_border_color="*primary_600", button_primary_border_color_dark="*primary_600",
        button_large_radius="*radius_md", button_small_radius="*radius_md",
    )  # fmt: skip
