"""What phenotypes and episodes are made of: CCS categories, ages, sexes, sizes. All numbers are assumed.

They were chosen so that the population looks like a hospital's. No optimiser fitted them, but some were set by
hand while looking at diabetes130 (the diabetic phenotypes' ages, "young diabetic", `AGE_FLOOR`). CCS numbers
are those of the single-level classification (`ccs.csv` has their names); a leading category comes before the
ones after it.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Phenotype:
    """A latent class of people.

    Args:
        name: Name.
        share: Relative weight at the age where it is most common.
        age: Age at which it is most common, and spread, years.
        ages: Youngest and oldest, whole years.
        sex_logit: Log odds of a woman against a man, beside age; `None` where only women have it.
        chronic: Expected number of chronic codes at a first visit.
        leading: CCS categories of most of them, the commonest first.
        visits: Mean number of visits, before the cut at 20.
        gap_days: Median days from a discharge to the next admission.
        episodes: Why they come, the commonest reason first.
    """

    name: str
    share: float
    age: tuple[float, float]
    ages: tuple[int, int]
    sex_logit: float | None
    chronic: float
    leading: tuple[int, ...]
    visits: float
    gap_days: float
    episodes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Episode:
    """An acute reason for a visit.

    Args:
        name: Name.
        share: Relative weight among people at large.
        acute: Expected number of acute codes.
        leading: CCS categories of most of them, the commonest first.
        ages: Youngest and oldest at the first visit, whole years.
        sex: "F" where only women have it.
        first_only: Whether it happens at the first visit only.
    """

    name: str
    share: float
    acute: float
    leading: tuple[int, ...]
    ages: tuple[int, int] = (0, 124)
    sex: str = "FM"
    first_only: bool = False


EPISODES = (
    Episode("birth", 0.0, 3.2, (218, 224, 10, 219, 222), (0, 0), first_only=True),
    Episode("newborn illness", 0.0, 4.2, (224, 222, 221, 219, 220, 2, 259, 223), (0, 0)),
    Episode("child infection", 0.5, 2.6, (126, 7, 92, 125, 135, 55, 246, 124, 123), (0, 17)),
    Episode("delivery", 0.0, 4.6, (196, 181, 193, 195, 189, 187, 190, 191, 192, 185, 183, 184, 186, 182, 194),
            (12, 55), "F"),
    Episode("early pregnancy", 0.0, 2.8, (181, 182, 180, 177, 184, 183, 178, 186, 179), (12, 55), "F"),
    Episode("routine", 1.0, 2.2, (259, 10, 251, 102, 252, 253, 163, 155, 255, 256, 250)),
    Episode("injury", 0.8, 4.0, (2603, 239, 236, 235, 229, 230, 231, 233, 2607, 244, 228, 2621, 232, 2618,
            225, 227)),
    Episode("hip fracture", 0.05, 5.0, (226, 2603, 60, 55, 2621, 159, 231, 245), (40, 124)),
    Episode("overdose", 0.15, 4.0, (241, 242, 662, 2613, 131, 85, 55, 243), (12, 124)),
    Episode("psychiatric crisis", 0.3, 2.2, (650, 662, 255, 244, 259, 670), (6, 124)),
    Episode("sepsis", 0.5, 7.0, (2, 249, 157, 131, 55, 159, 62, 63, 3, 122, 237), (0, 124)),
    Episode("respiratory", 0.7, 4.2, (122, 131, 133, 130, 55, 125, 134, 129, 123)),
    Episode("coronary", 0.5, 3.4, (100, 102, 107, 117, 60, 55, 249, 245), (25, 124)),
    Episode("heart failure decompensated", 0.4, 3.8, (55, 133, 157, 130, 117, 131, 252), (25, 124)),
    Episode("stroke", 0.35, 4.2, (109, 112, 259, 85, 159, 129, 93), (25, 124)),
    Episode("gut bleeding or blockage", 0.6, 4.0, (153, 145, 60, 155, 140, 139, 141, 148, 55, 154, 120, 147,
            143)),
    Episode("gallbladder or pancreas", 0.4, 3.6, (149, 152, 148, 55, 251, 250, 142)),
    Episode("kidney and salts", 0.5, 4.4, (157, 55, 63, 62, 160, 163, 259)),
    Episode("urinary infection", 0.5, 3.4, (159, 160, 163, 55, 3, 162, 246)),
    Episode("skin infection", 0.4, 3.2, (197, 3, 200, 248, 201, 198, 237, 121)),
    Episode("surgery and complications", 0.7, 4.2, (238, 237, 2616, 60, 55, 47, 204, 212, 259, 130, 2620)),
    Episode("cancer treatment", 0.1, 3.6, (45, 63, 62, 250, 55, 60, 246, 52, 10, 137), (1, 124)),
    Episode("clots and bleeding", 0.25, 3.6, (118, 62, 60, 116, 121, 117, 2617)),
    Episode("nerves and senses", 0.3, 2.6, (93, 85, 91, 90, 78, 245, 92, 77, 76)),
    Episode("women's health", 0.25, 3.0, (175, 172, 171, 47, 168, 163, 167, 176), (13, 90), "F"),
)  # fmt: skip

PHENOTYPES = (
    Phenotype("newborn", 30.0, (0, 1), (0, 0), 0.0, 0.25, (213, 217, 215, 214, 216), 1.4, 60,
              ("birth", "birth", "birth", "newborn illness")),
    Phenotype("child", 4.0, (5, 7), (0, 17), -0.2, 0.4, (128, 83, 655, 654, 217, 94), 1.5, 200,
              ("child infection", "respiratory", "injury", "gut bleeding or blockage", "routine")),
    Phenotype("congenital or complex child", 1.2, (3, 7), (0, 25), -0.2, 3.0, (217, 213, 654, 83, 216, 128,
              56, 82, 61, 215, 58),
              4.0, 80, ("respiratory", "child infection", "sepsis", "surgery and complications",
              "kidney and salts")),
    Phenotype("young and injured", 2.2, (24, 12), (10, 60), -0.9, 0.8, (663, 660, 661, 128, 651), 1.3, 300,
              ("injury", "routine", "gallbladder or pancreas", "skin infection", "gut bleeding or blockage")),
    Phenotype("childbearing", 9.0, (28, 6), (13, 48), None, 0.5, (128, 48, 651, 657, 663, 58), 1.7, 400,
              ("delivery", "delivery", "early pregnancy")),
    Phenotype("women's health", 1.2, (44, 12), (15, 80), None, 1.2, (46, 169, 170, 173, 59, 48, 98), 1.4, 350,
              ("women's health", "urinary infection", "surgery and complications", "routine")),
    Phenotype("alcohol and drugs", 1.4, (43, 13), (16, 80), -0.9, 3.4, (660, 663, 661, 151, 6, 657, 651,
              150, 83, 98),
              3.4, 75, ("overdose", "psychiatric crisis", "gallbladder or pancreas", "injury",
              "skin infection", "gut bleeding or blockage")),
    Phenotype("mood and mind", 1.3, (40, 17), (10, 90), 0.3, 2.8, (657, 651, 659, 663, 658, 661, 660, 652,
              84, 58, 48),
              2.8, 110, ("psychiatric crisis", "overdose", "routine", "nerves and senses")),
    Phenotype("mostly well adult", 2.5, (48, 22), (16, 95), 0.0, 1.1, (98, 663, 53, 138, 128, 205, 48), 1.2,
              400,
              ("routine", "gallbladder or pancreas", "surgery and complications", "injury",
              "gut bleeding or blockage", "urinary infection", "skin infection")),
    Phenotype("metabolic", 2.6, (58, 17), (20, 95), 0.0, 4.2, (98, 49, 53, 58, 138, 203, 48, 663, 257, 657),
              1.8, 220,
              ("coronary", "routine", "skin infection", "urinary infection", "surgery and complications",
              "respiratory")),
    Phenotype("young diabetic", 0.35, (24, 12), (3, 60), 0.1, 2.6, (49, 50, 257, 661, 657, 663, 87, 48, 651),
              2.6, 100, ("kidney and salts", "kidney and salts", "gut bleeding or blockage", "routine")),
    Phenotype("diabetic with complications", 1.8, (63, 17), (15, 95), -0.1, 6.2, (50, 49, 98, 158, 99, 257,
              95, 53, 199, 114, 59, 101, 108, 87),
              3.3, 85, ("kidney and salts", "skin infection", "sepsis", "heart failure decompensated",
              "coronary")),
    Phenotype("coronary", 2.6, (67, 12), (30, 95), -0.6, 5.4, (101, 98, 53, 663, 49, 106, 258, 257, 108,
              138, 114), 2.1, 160,
              ("coronary", "coronary", "surgery and complications", "routine",
              "heart failure decompensated")),
    Phenotype("heart failure and flutter", 2.4, (78, 10), (40, 95), 0.0, 6.4, (108, 106, 98, 101, 96, 99,
              158, 257, 103, 53, 127, 48, 59), 3.0, 75,
              ("heart failure decompensated", "respiratory", "kidney and salts", "urinary infection",
              "gut bleeding or blockage")),
    Phenotype("chronic lung disease", 1.8, (69, 12), (25, 95), 0.0, 4.8, (127, 663, 98, 128, 138, 108, 657,
              651, 132, 103, 206), 3.0, 90,
              ("respiratory", "respiratory", "heart failure decompensated", "sepsis", "routine")),
    Phenotype("kidney failure", 1.1, (63, 15), (15, 95), -0.2, 6.4, (158, 99, 59, 258, 51, 161, 108, 101,
              49, 156, 210), 4.6, 55,
              ("kidney and salts", "surgery and complications", "sepsis", "clots and bleeding")),
    Phenotype("stroke and nerves", 1.4, (71, 13), (20, 95), 0.0, 4.6, (98, 113, 110, 106, 83, 82, 53, 95,
              79, 80, 111, 653), 1.8, 180,
              ("stroke", "stroke", "nerves and senses", "urinary infection", "respiratory")),
    Phenotype("frail and forgetful", 2.0, (84, 7), (60, 95), 0.4, 5.2, (653, 98, 206, 48, 106, 199, 79, 203,
              88, 657, 59, 89), 2.2, 90,
              ("urinary infection", "hip fracture", "respiratory", "sepsis", "injury", "kidney and salts")),
    Phenotype("solid cancer", 1.8, (67, 12), (20, 95), -0.1, 4.2, (42, 19, 24, 14, 29, 17, 32, 33, 27, 15,
              12, 258, 98, 59), 3.4, 45,
              ("cancer treatment", "surgery and complications", "sepsis", "gut bleeding or blockage",
              "clots and bleeding", "respiratory")),
    Phenotype("blood cancer", 0.5, (60, 19), (2, 95), -0.2, 3.6, (38, 39, 40, 37, 59, 64, 258, 257), 5.0, 35,
              ("cancer treatment", "cancer treatment", "sepsis", "respiratory")),
    Phenotype("liver disease", 0.8, (56, 11), (20, 90), -0.5, 5.0, (151, 150, 6, 660, 59, 49, 663, 138, 16),
              3.8, 50,
              ("gut bleeding or blockage", "kidney and salts", "sepsis", "gallbladder or pancreas")),
    Phenotype("bowel disease", 1.2, (55, 19), (12, 95), 0.2, 3.0, (146, 144, 138, 98, 59, 53, 651, 205),
              2.1, 160,
              ("gut bleeding or blockage", "surgery and complications", "routine")),
    Phenotype("joints and bones", 1.8, (68, 12), (18, 95), 0.5, 3.8, (203, 205, 98, 206, 58, 202, 48, 209,
              211, 53, 138), 1.5, 300,
              ("surgery and complications", "injury", "clots and bleeding", "routine")),
    Phenotype("immune and infected", 0.6, (42, 13), (5, 85), -0.2, 3.4, (5, 6, 210, 202, 57, 61, 661, 59),
              3.2, 80,
              ("sepsis", "respiratory", "skin infection", "nerves and senses")),
    Phenotype("old men's urology", 1.0, (74, 10), (45, 95), -4.0, 4.2, (164, 29, 98, 32, 158, 53, 101, 258),
              1.8, 170,
              ("urinary infection", "surgery and complications", "kidney and salts")),
)  # fmt: skip

# Chronic categories by how often people at large have them; the rest follow by chance.
POPULAR_CHRONIC = (
    98,
    53,
    663,
    49,
    101,
    138,
    106,
    108,
    257,
    258,
    48,
    127,
    657,
    59,
    651,
    158,
    128,
    58,
    205,
    203,
    50,
)
POPULAR_ACUTE = (
    55,
    259,
    157,
    159,
    122,
    131,
    60,
    133,
    155,
    251,
    250,
    102,
    237,
    238,
    2616,
    197,
    163,
    3,
    245,
    246,
)

# Age: a bump with centre and spread in years, over a floor; categories not named are flat.
AGE_CURVES: dict[tuple[float, float], tuple[int, ...]] = {
    (84, 16): (29, 79, 88, 89, 96, 104, 105, 106, 108, 113, 206, 207, 226, 653, 109, 199, 111),
    (74, 20): (19, 32, 40, 42, 86, 87, 97, 99, 101, 103, 110, 112, 114, 115, 127, 158, 164, 203, 100, 98,
        117, 129, 12),
    (60, 22): (14, 15, 16, 17, 24, 25, 27, 33, 49, 50, 53, 54, 95, 138, 146, 149, 150, 151, 173, 205, 48,
        59, 258, 257, 663),
    (40, 20): (5, 6, 46, 80, 84, 144, 169, 171, 202, 210, 651, 657, 658, 659, 660, 661, 142, 168, 172, 176,
        177, 174),
    (22, 14): (9, 30, 225, 232, 2604, 2607, 241, 650),
    (4, 8): (56, 92, 124, 126, 128, 134, 213, 214, 215, 216, 217, 652, 654, 655, 7, 123),
}  # fmt: skip
AGE_FLOOR = 0.04

# Sex: log rate of women against men, beside phenotypes; categories not named get a small one by chance.
SEX_EFFECTS: dict[int, float] = {
    24: 3.5, 48: 1.1, 54: -0.8, 59: 0.3, 84: 0.8, 100: -0.4, 101: -0.6, 115: -0.9, 119: 0.4, 143: -0.7, 149: 0.3,
    150: -0.8, 159: 0.6, 160: -0.4, 163: 0.0, 202: 0.8, 203: 0.3, 206: 1.6, 210: 1.6, 226: 0.4, 32: -1.0, 33: -0.5,
    11: -0.9, 12: -1.2, 16: -0.9, 19: -0.3, 5: -0.8, 6: -0.4, 651: 0.5, 657: 0.5, 658: 0.2, 660: -1.0, 661: -0.4,
    663: -0.4, 128: 0.4, 58: 0.3, 653: 0.1, 104: 0.1, 97: -0.3, 2607: -0.3, 236: -0.6, 99: -0.1,
}  # fmt: skip
