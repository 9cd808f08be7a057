"""What a tissue is to a scanner: relaxation, proton density, contrast uptake, Hounsfield units.

Each row names where its relaxation times come from; what no source gave is marked as assumed. The abstracts
or tables of koolstra, noeth and patz were read again for their numbers; the others are as first entered.

Sources
-------
bojorquez
    Bojorquez et al., Magn. Reson. Imaging 35, 69 (2017): review of relaxation times at 3 T.
bazelaire
    de Bazelaire et al., Radiology 230, 652 (2004): subcutaneous fat, bone marrow, 1.5 and 3 T.
koolstra
    Koolstra et al., Magn. Reson. Med. 81, 2551 (2019): lens and vitreous at 7 T.
noeth
    Nöth et al., NMR Biomed. 33, e4242 (2020): contrast agent shortens T1 of enhancing
    glioblastoma by 838 ± 210 ms and of oedema by 123 ± 74 ms, at 3 T.
patz
    Patz et al., J. Magn. Reson. Imaging 26, 510 (2007): fluid of the eye at 1.5 T.
reichert
    Reichert et al., Magn. Reson. Imaging 23, 611 (2005): cortical bone with ultrashort echoes.
rooney
    Rooney et al., Magn. Reson. Med. 57, 308 (2007): T1 of CSF 4.3 s at every field; of grey and white
    matter in vivo at 1.5 T 1188 and 656 ms (from memory, unverified; with them the brightness of grey
    matter in Colin27's T1 is predicted within 2 %, with the longer ones of stanisz not at all).
schneider
    Schneider, Bortfeld & Schlegel, Phys. Med. Biol. 45, 459 (2000): HU of tissues from their
    composition.
stanisz
    Stanisz et al., Magn. Reson. Med. 54, 507 (2005): grey, white, muscle at 1.5 and 3 T.
buzug
    Buzug, Computed Tomography (2008), p. 475: HU of white 20–30, of grey 37–45, of fat −50 to
    −100, of bone 700–3000.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from imaging.tissue import Tissue

FIELDS = (1.5, 3.0)  # tesla, in the order of the pairs below


@dataclass(frozen=True)
class Properties:
    """A tissue's numbers.

    Parameters
    ----------
    t1, t2
        Relaxation times at 1.5 T and 3 T (ms).
    pd
        Proton density seen by MRI, relative to CSF.
    uptake
        Concentration of a gadolinium agent some minutes after a single dose (mmol/l of tissue).
    hu
        Mean CT number (HU).
    source
        Where T1 and T2 come from.
    """

    t1: tuple[float, float]
    t2: tuple[float, float]
    pd: float
    uptake: float
    hu: float
    source: str


PROPERTIES: dict[Tissue, Properties] = {
    Tissue.OUTSIDE: Properties((1000.0, 1000.0), (100.0, 100.0), 0.0, 0.0, -1000.0, "no protons"),
    Tissue.AIR: Properties((1000.0, 1000.0), (100.0, 100.0), 0.0, 0.0, -1000.0, "no protons"),
    # Skin, muscle and connective tissue together; HU of muscle.
    Tissue.SCALP: Properties((1008.0, 1412.0), (44.0, 50.0), 0.75, 0.04, 45.0, "stanisz: skeletal muscle"),
    # Less signal than pure fat: septa, and shift between fat and water.
    Tissue.FAT: Properties((343.0, 382.0), (58.0, 68.0), 0.7, 0.0, -95.0, "bazelaire: subcutaneous fat"),
    # T2 is far below any echo time of a clinical sequence.
    Tissue.SKULL: Properties((200.0, 260.0), (0.5, 0.5), 0.2, 0.0, 1150.0, "reichert"),
    Tissue.MARROW: Properties((549.0, 586.0), (49.0, 49.0), 0.55, 0.01, 420.0, "bazelaire; pd assumed"),
    Tissue.CSF: Properties((4300.0, 4300.0), (2000.0, 2000.0), 1.0, 0.0, 6.0, "rooney; T2 assumed"),
    Tissue.EYE: Properties((4300.0, 4300.0), (450.0, 450.0), 1.0, 0.0, 10.0, "patz: T2; T1 assumed as CSF"),
    Tissue.GREY: Properties(
        (1188.0, 1820.0), (95.0, 99.0), 0.83, 0.008, 39.0, "rooney; stanisz at 3 T and T2"
    ),
    Tissue.WHITE: Properties(
        (656.0, 1084.0), (72.0, 69.0), 0.70, 0.005, 28.0, "rooney; stanisz at 3 T and T2"
    ),
    Tissue.BRAINSTEM: Properties((750.0, 1220.0), (76.0, 74.0), 0.73, 0.005, 32.0, "assumed, as white"),
    Tissue.NECROSIS: Properties((1900.0, 2600.0), (210.0, 190.0), 0.95, 0.01, 18.0, "assumed"),
    Tissue.OEDEMA: Properties((1100.0, 1500.0), (130.0, 125.0), 0.82, 0.012, 20.0, "assumed; uptake noeth"),
    Tissue.ENHANCING: Properties((1200.0, 1700.0), (115.0, 110.0), 0.85, 0.15, 36.0, "assumed; uptake noeth"),
    # Between cortex (T1 1413, T2 100 ms at 1.5 T: patz) and nucleus (T1 1000, T2 29 ms at 7 T: koolstra).
    Tissue.LENS: Properties((1200.0, 1250.0), (55.0, 50.0), 0.6, 0.0, 95.0, "patz and koolstra, mixed"),
    Tissue.NERVE: Properties((815.0, 1083.0), (77.0, 78.0), 0.70, 0.005, 33.0, "stanisz: optic nerve"),
    Tissue.GLAND: Properties((1000.0, 1300.0), (80.0, 75.0), 0.80, 0.12, 45.0, "assumed"),
    Tissue.TOOTH: Properties((200.0, 260.0), (0.2, 0.2), 0.02, 0.0, 2200.0, "assumed"),
    Tissue.FLUID: Properties((2200.0, 2600.0), (250.0, 220.0), 0.95, 0.02, 15.0, "assumed"),
    Tissue.INFILTRATION: Properties((1250.0, 1750.0), (140.0, 130.0), 0.86, 0.012, 25.0, "assumed"),
    Tissue.CAVITY: Properties((3600.0, 3800.0), (1200.0, 1000.0), 1.0, 0.01, 10.0, "assumed, as fluid"),
    Tissue.METAL: Properties((200.0, 260.0), (0.1, 0.1), 0.0, 0.0, 3071.0, "no protons"),
    Tissue.DURA: Properties((900.0, 1100.0), (30.0, 28.0), 0.55, 0.10, 55.0, "assumed"),
    Tissue.SHUNT: Properties((200.0, 260.0), (0.5, 0.5), 0.02, 0.0, 250.0, "assumed"),
}


def column(name: str, field: float = 3.0) -> Tensor:
    """One property of every tissue, indexed by label, shape ``(n,)`` float32.

    Parameters
    ----------
    name
        A field of `Properties`: ``t1``, ``t2``, ``pd``, ``uptake`` or ``hu``.
    field
        Field strength (T), 1.5 or 3.

    Raises
    ------
    ValueError
        If there are no values at this field strength.
    """
    if field not in FIELDS:
        raise ValueError(f"expected a field of 1.5 or 3 T, got {field}")
    out = torch.zeros(max(Tissue) + 1)
    for tissue, properties in PROPERTIES.items():
        value = getattr(properties, name)
        out[tissue] = value[FIELDS.index(field)] if isinstance(value, tuple) else value
    return out
