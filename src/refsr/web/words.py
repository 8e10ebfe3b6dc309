# ruff: noqa: RUF001 - Chinese has commas and colons of its own
"""All words of the page, in English and Chinese: what a visitor reads is found here and nowhere else.

Labels, buttons and explanations stand on the page from the beginning, and the browser chooses their language; what is
said at run time is composed here in the language that the visitor's browser asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Language = Literal["en", "zh"]

FIXED: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "about": (
            "# Real detail from another sharp photo\n"
            "Give a blurry or small photo, and one or more sharp photos of something similar: another shot of the trip,"
            " the same building, the other camera of the phone. They need not be aligned."
        ),
        "photo": "1. Blurry or small photo",
        "references": "2. Sharp photos of something similar",
        "scale": "Larger by",
        "texture": "Texture: 0 faithful, 1 crisp",
        "texture_info": "Crisp looks sharper, and errs more where nothing is known.",
        "measure": "Measure noise, blur and compression",
        "measure_info": "They decide how strongly the photo is cleaned; without it, you choose.",
        "denoise": "Cleaning: 0 keeps all grain, 1 removes it",
        "kind": "Download as",
        "start": "Restore",
        "cancel": "Cancel",
        "example": "Try it with an example",
        "limits": (
            "Up to {references} sharp photos, {file} MiB a file and {request} MiB in all; the result may have"
            " {megapixels} megapixels, and so may each sharp photo. Everything is deleted after {minutes} minutes."
        ),
        "how": "A blurry photo and a sharp one of the same place: the texture of the latter restores the former.",
        "result": "The result: click or tap a place to see it in full size",
        "given": "### What came from your references",
        "map": "Map: what is real, and what is guessed",
        "map_about": (
            "**Coloured** detail comes from your references, a colour for each; **grey** detail is guessed. Do not rely"
            " on guessed detail, least of all in faces and text."
        ),
        "compare": "Compare with a result without references",
        "download": "Download the result",
    },
    "zh": {
        "about": (
            "# 从另一张清晰照片取得真实细节\n"
            "上传一张模糊或很小的照片，再上传一张或多张拍到相似内容的清晰照片：同一次旅行的另一张、同一座建筑、"
            "手机的另一个镜头。照片不必对齐。"
        ),
        "photo": "1. 模糊或很小的照片",
        "references": "2. 内容相似的清晰照片",
        "scale": "放大倍数",
        "texture": "纹理：0 忠实，1 锐利",
        "texture_info": "越锐利看起来越清晰，但在没有依据的地方出错更多。",
        "measure": "测量噪点、模糊和压缩",
        "measure_info": "由它们决定清理的强度；不测量时由您选择。",
        "denoise": "清理强度：0 保留全部颗粒，1 全部去除",
        "kind": "下载格式",
        "start": "开始修复",
        "cancel": "取消",
        "example": "用示例试一试",
        "limits": (
            "最多 {references} 张清晰照片，每个文件 {file} MiB，总共 {request} MiB；结果和每张清晰照片最多 {megapixels}"
            " 百万像素。所有文件在 {minutes} 分钟后删除。"
        ),
        "how": "一张模糊的照片，加上一张同一地点的清晰照片：清晰照片的纹理修复模糊的照片。",
        "result": "结果：点按任意位置，查看原始大小",
        "given": "### 参考照片带来了什么",
        "map": "来源图：哪些真实，哪些是推测",
        "map_about": (
            "**彩色**的细节来自参考照片，每张一种颜色；**灰色**的细节是推测的。请不要依赖推测的细节，尤其是人脸和文字。"
        ),
        "compare": "与不用参考的结果比较",
        "download": "下载结果",
    },
}
"""What stands on the page; gradio shows it in the browser's language."""

SPOKEN: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "before": "before",
        "after": "after",
        "without": "without references",
        "reading": "reading the pictures",
        "matching": "looking for the same things in your references",
        "restoring": "restoring",
        "writing": "writing the result",
        "comparing": "restoring without references",
        "progress": "{step}: {percent} %",
        "left": "{step}: {percent} %, {time} left",
        "waiting": "Waiting: {ahead} before you, your turn in {time}.",
        "seconds": "about {count} s",
        "minutes": "about {count} min",
        "cancelled": "Cancelled.",
        "done": "Done in {seconds} s.",
        "compared": "Without references: {seconds} s.",
        "compare_in": "It takes {time}.",
        "gave": "{percent} % of the picture",
        "gave_nothing": "no sharper than your photo: nothing was taken",
        "unfit": "shows other things: not used",
        "same": "is the photo itself: not used",
        "summary": "{width} x {height} pixels. {percent} % of it has detail of your references; the rest is guessed.",
        "summary_sharp": "{width} x {height} pixels. The photo is as sharp as its size allows, and stays as it is.",
        "summary_alone": "{width} x {height} pixels. Without a reference: all detail is guessed.",
        "seen": "Measured in the photo: noise {noise}, blur {blur} pixels, {jpeg}.",
        "jpeg": "JPEG about {quality}",
        "no_jpeg": "no JPEG",
        "as_clean": "Restored as a clean photo.",
        "as_real": "Restored as a blurry or noisy photo.",
        "as_mixed": "Cleaned with a strength of {percent} %.",
        "crisp": "Texture {texture}.",
        "no_photo": "Give a blurry photo first.",
        "expired": "This result is deleted already: restore the photo again.",
        "broken": "{name}: is no picture that can be read, or is damaged: choose another",
        "large_file": "{name}: is larger than {limit} MiB, which is the limit here: shrink it",
        "large_request": "the pictures have {size} MiB together, {limit} are allowed here: shrink them or choose fewer",
        "many": "{count} sharp photos: no more than {limit} are allowed here",
        "large_reference": "{name}: has {size} megapixels, {limit} are allowed here: shrink it",
        "large_result": "the result would have {size} megapixels, {limit} are allowed here: {remedy}",
        "long": "this would take {time} on this machine, and {limit} are allowed: {remedy}",
        "remedy_scale": "choose {scale} times, or shrink the photo to {width} x {height} pixels",
        "remedy_size": "shrink the photo to {width} x {height} pixels",
        "remedy_references": "choose fewer or smaller sharp photos",
        "took_long": "this took more than {limit}, which is the limit here: use smaller pictures",
        "transparent": "{name}: is transparent in places, which JPEG cannot keep: download as PNG",
        "full": "{count} others wait already, which is the limit here: come back in a while",
        "disk": "the server has no room for more pictures at the moment: come back in {minutes} minutes",
        "trouble": "the server could not read or write a picture ({reason}): try again",
        "memory": "this is too much for the server's memory: use smaller pictures",
    },
    "zh": {
        "before": "之前",
        "after": "之后",
        "without": "不用参考",
        "reading": "读取照片",
        "matching": "在参考照片中寻找相同的内容",
        "restoring": "修复中",
        "writing": "写入结果",
        "comparing": "不用参考进行修复",
        "progress": "{step}：{percent}%",
        "left": "{step}：{percent}%，还需{time}",
        "waiting": "排队中：前面有 {ahead} 个，{time}后轮到您。",
        "seconds": "约 {count} 秒",
        "minutes": "约 {count} 分钟",
        "cancelled": "已取消。",
        "done": "完成，用时 {seconds} 秒。",
        "compared": "不用参考：用时 {seconds} 秒。",
        "compare_in": "需要{time}。",
        "gave": "占画面的 {percent}%",
        "gave_nothing": "不比您的照片清晰：未取用",
        "unfit": "内容不同：未使用",
        "same": "就是照片本身：未使用",
        "summary": "{width} x {height} 像素。画面的 {percent}% 来自参考照片，其余是推测的。",
        "summary_sharp": "{width} x {height} 像素。照片在这个大小下已足够清晰，保持原样。",
        "summary_alone": "{width} x {height} 像素。没有参考：所有细节都是推测的。",
        "seen": "照片的测量结果：噪点 {noise}，模糊 {blur} 像素，{jpeg}。",
        "jpeg": "压缩质量约 {quality}",
        "no_jpeg": "无压缩痕迹",
        "as_clean": "按干净的照片修复。",
        "as_real": "按模糊或有噪点的照片修复。",
        "as_mixed": "清理强度 {percent}%。",
        "crisp": "纹理 {texture}。",
        "no_photo": "请先上传一张模糊的照片。",
        "expired": "这个结果已被删除：请重新修复照片。",
        "broken": "{name}：不是可读取的图片，或已损坏：请另选一张",
        "large_file": "{name}：超过 {limit} MiB 的限制：请缩小",
        "large_request": "图片共有 {size} MiB，这里最多 {limit} MiB：请缩小或少选几张",
        "many": "有 {count} 张清晰照片：这里最多 {limit} 张",
        "large_reference": "{name}：有 {size} 百万像素，这里最多 {limit}：请缩小",
        "large_result": "结果将有 {size} 百万像素，这里最多 {limit}：{remedy}",
        "long": "在这台机器上需要{time}，限制是{limit}：{remedy}",
        "remedy_scale": "请选择 {scale} 倍，或把照片缩小到 {width} x {height} 像素",
        "remedy_size": "请把照片缩小到 {width} x {height} 像素",
        "remedy_references": "请选择更少或更小的清晰照片",
        "took_long": "已超过{limit}的限制：请使用更小的图片",
        "transparent": "{name}：有透明部分，JPEG 无法保存：请下载为 PNG",
        "full": "已有 {count} 人在排队，达到上限：请稍后再来",
        "disk": "服务器暂时没有空间存放更多图片：请在 {minutes} 分钟后再来",
        "trouble": "服务器无法读取或写入图片（{reason}）：请再试一次",
        "memory": "超出服务器的内存：请使用更小的图片",
    },
}
"""What is said at run time."""


@dataclass(frozen=True)
class Words:
    """The words of one language."""

    language: Language

    def __call__(self, key: str, **values: object) -> str:
        """A text of `SPOKEN` with its places filled."""
        return SPOKEN[self.language][key].format(**values)

    def time(self, seconds: float) -> str:
        """A span of time, roughly, as a person would say it."""
        if seconds < 100:
            return self("seconds", count=max(1, round(seconds)))
        return self("minutes", count=max(2, round(seconds / 60)))


def words_for(accept_language: str | None) -> Words:
    """Words in the language that a browser likes best among ours.

    Args:
        accept_language: The header of this name, such as "zh-CN,zh;q=0.9,en;q=0.8".
    """
    wishes: list[tuple[float, Language]] = []
    for wish in (accept_language or "").split(","):
        tag, _, weight = wish.strip().partition(";q=")
        language = tag.strip().lower().partition("-")[0]
        try:
            liking = float(weight or 1)
        except ValueError:
            liking = 0.0
        wishes += [(liking, ours) for ours in SPOKEN if ours == language]
    return Words(max(wishes, key=lambda wish: wish[0])[1] if wishes else "en")


def fixed_words(values: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """`FIXED` with its places filled, by the languages as browsers call them.

    Args:
        values: Figures that the texts name.
    """
    filled = {
        language: {key: text.format(**values) for key, text in texts.items()} for language, texts in FIXED.items()
    }
    return filled | dict.fromkeys(("zh-CN", "zh-TW", "zh-HK", "zh-SG"), filled["zh"])
