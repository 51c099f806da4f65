"""Diffusion tree sampling: rollouts grow a tree of noised states, and rewards flow back up it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    TRANSITIONS,
    Method,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    at_quantiles,
    expand,
    filled,
    forward,
    param,
    require_finite,
    reward_work,
    row_blocks,
    start_param,
    systematic,
    transition_param,
    uniforms,
    whole_populations,
)


@dataclass(frozen=True)
class DTSParams:
    """A tree, the samples that are drawn from it, and when a node gets another child."""

    rollouts: int = param(4, low=1, high=100_000, log=True, help="rollouts I per sample of a tree")
    samples: int = param(16, low=1, high=10_000, log=True, help="samples P drawn from one tree")
    steps: int = param(
        10, low=1, least=5, high=2000, log=True, help="time steps K, the depth of the tree"
    )
    widening: float = param(
        4.0, low=1e-3, high=1e9, log=True, help="C: a node has up to C N^power children"
    )
    power: float = param(0.8, low=0.0, high=1.0, help="of the visits N of a node")
    start: float = start_param()
    variance: str = transition_param()


class DTS(Method[DTSParams]):
    """Diffusion tree sampling: soft values learnt from whole rollouts decide where the next begins.

    Jain et al. 2025 (arXiv 2506.20701), Algorithm 1: walk down the tree, at a node with fewer than
    C N^power children draw a new one from the base chain and roll it out to the end, else go on to
    a child in proportion to e^v; then, from the leaf's reward up, v = log mean e^v of the children
    (the soft Bellman equation).  Every node's estimate gains from every rollout below it, unlike
    those of particles.  A walk in a finished tree ends in leaf x with probability proportional to
    e^r(x) / prod of the numbers of its ancestors' children: P samples are drawn so.  C to infinity
    is importance resampling of rollouts, with an unbiased estimate of Z.  Assumes nothing of the
    reward.  Biased towards the base model and low in Z: a node that was unlucky is not visited
    again and one that was lucky is corrected, and deep nodes have few visits however many rollouts
    there are (the paper's exactness is a limit in which all of them have many); the wider, the
    less.  Samples of one tree are dependent.
    Cost per sample: at most I (K flow + reward); a rollout from depth d costs K - d flow.
    """

    summary = "a tree of rollouts whose rewards, backed up, decide where the next one begins"
    standing = "baseline"
    Params = DTSParams
    effort = ("rollouts", "steps")

    @property
    def needs(self) -> frozenset[Need]:
        return TRANSITIONS[self.params.variance].needs

    @property
    def together(self) -> int:
        return int(self.params.samples)

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        moves = TRANSITIONS[p.variance].work() * float(p.steps - 1)
        one = forward("flow", p.steps) + moves + reward_work(spec, 1)
        return Work(upper_bound=True) + one * float(p.rollouts)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        p, parts = self.params, list[Samples]()
        for trees, size in whole_populations(problem.rows, p.samples):
            for rows in row_blocks(trees, size * p.rollouts):
                parts.append(self._drawn(problem.for_rows(rows), size))
        return Samples.joined(parts)

    def _drawn(self, problem: Problem, size: int) -> Samples:
        """`size` samples of one tree per row of the problem."""
        p = self.params
        tree = Tree(len(problem.rows), p.steps, size * p.rollouts, problem.device)
        grown = Growing(problem, p, tree)
        for k in range(size * p.rollouts):
            grown.rollout(k)
        log_weight = tree.leaf_log_weight()
        u = uniforms(problem, "draw", 0, 1).expand(-1, size)
        rows = torch.arange(len(u), device=u.device)
        x = grown.leaves[rows[:, None], systematic(log_weight, u)].flatten(0, 1)
        log_z = float(log_weight.exp().sum(1).mean().log())
        info = {"used": grown.evaluated / tree.shape.numel()}
        return Samples(x, group=rows.repeat_interleave(size), log_z=log_z, info=info)


# -- the tree -------------------------------------------------------------------------------------

ROOT, NOBODY = -1, -2
"""Parents of the top layer, and of slots without a node."""

FAR = -1e300
"""A value that no walk goes to."""


class Tree:
    """Nodes of several trees: the one of depth j that rollout k made is slot k of layer j.

    Layers are tensors (trees, slots): parent is the slot in the layer above, value the soft value,
    -inf where there is no node.  visits and children count; a root above all has counts of its own.
    """

    def __init__(self, trees: int, depth: int, slots: int, device: str = "cpu") -> None:
        self.shape = torch.Size((depth, trees, slots))
        none = torch.zeros(self.shape, dtype=torch.long, device=device)
        self.parent, self.visits, self.children = none + NOBODY, none, none.clone()
        self.value = torch.full_like(none, -torch.inf, dtype=torch.float64)
        self.root_children = none[0, :, 0].clone()
        self.rows = torch.arange(trees, device=device)

    def below(self, j: int, slot: Tensor) -> Tensor:
        """Values of the children in layer j of each tree's `slot` above, -inf elsewhere."""
        return self.value[j].masked_fill(self.parent[j] != slot[:, None], -torch.inf)

    def add(self, j: int, rows: Tensor, k: int, parent: Tensor) -> None:
        """Rollout k's node of depth j in the trees `rows`, under `parent` (rows,); 0: the root."""
        self.parent[j][rows, k] = parent if j else ROOT
        if j:
            self.children[j - 1][rows, parent] += 1
        else:
            self.root_children[rows] += 1
        self.value[j][rows, k] = FAR  # until the reward comes up

    def back_up(self, path: Tensor, reward: Tensor) -> None:
        """Set the rewards (trees,) at the leaves of path (depth, trees), and the values above."""
        self.value[-1][self.rows, path[-1]] = reward
        self.visits[-1][self.rows, path[-1]] += 1
        for j in range(self.shape[0] - 2, -1, -1):
            at = self.rows, path[j]
            total = self.below(j + 1, path[j]).logsumexp(1)
            self.value[j][at] = total - self.children[j][at].double().log()
            self.visits[j][at] += 1

    def leaf_log_weight(self) -> Tensor:
        """r(leaf) - sum of log(children) of its ancestors, (trees, slots); the sum estimates Z."""
        rows = self.rows[:, None]
        spent = self.root_children.double().log()[:, None].expand(self.shape[1:])
        for j in range(self.shape[0] - 1):
            up = self.parent[j + 1].clamp(min=0)
            spent = spent[rows, up] + self.children[j][rows, up].double().log()
        found = self.value[-1] > -torch.inf
        return torch.where(found, self.value[-1] - spent, -torch.inf)


class Growing:
    """Rollouts into a tree; x and denoised are (depth, trees, slots, *event)."""

    def __init__(self, problem: Problem, params: DTSParams, tree: Tree) -> None:
        self.problem, self.params, self.tree = problem, params, tree
        self.grid = problem.grid(params.steps, params.start)
        like = problem.x0()
        self.x = like.new_zeros((*tree.shape, *problem.event_shape))
        self.denoised = torch.zeros_like(self.x)
        self.evaluated = 0

    @property
    def leaves(self) -> Tensor:
        """The samples at the leaves, (trees, slots, *event)."""
        return self.denoised[-1]

    def rollout(self, k: int) -> None:
        """Walk down, draw from there to the end, and back the reward up."""
        path, begins = self._walk(k)
        depth = self.tree.shape[0]
        for j in range(depth):
            rows = self.tree.rows[begins <= j]
            if len(rows):
                parent = torch.where(begins[rows] < j, k, path[j - 1][rows]) if j else rows
                self._node(j, k, rows, parent)
        layers = torch.arange(depth, device=begins.device)[:, None]
        path = torch.where(layers >= begins, k, path)
        self.tree.back_up(path, self._rewards(begins < depth, path[-1]))

    def _walk(self, k: int) -> tuple[Tensor, Tensor]:
        """The slots passed (depth, trees), and the depth (trees,) where the new nodes begin."""
        tree, p = self.tree, self.params
        depth, rows = tree.shape[0], tree.rows
        path, slot = tree.parent[:, :, 0].clone(), torch.full_like(rows, ROOT)
        begins, visits, count = torch.full_like(rows, depth), rows * 0 + k, tree.root_children
        u = uniforms(self.problem, "walk", k, depth)
        for j in range(depth):
            widens = count < p.widening * visits.clamp(min=1).double() ** p.power
            begins = torch.where(widens & (begins == depth), j, begins)
            # Below where the new nodes begin the walk goes nowhere: its slots are not used.
            slot = at_quantiles(tree.below(j, slot).clamp(min=FAR), u[:, j : j + 1])[:, 0]
            path[j], visits, count = slot, tree.visits[j][rows, slot], tree.children[j][rows, slot]
        return path, begins

    def _node(self, j: int, k: int, rows: Tensor, parent: Tensor) -> None:
        """Draw and evaluate rollout k's node of depth j in the trees `rows`."""

        def noise(name: str, shape: tuple[int, ...]) -> Tensor:
            return self.problem.noise(f"tree-{name}-{j}", k, shape)[rows]

        x = noise("step", self.problem.event_shape)
        if j:
            above = self.x[j - 1][rows, parent], self.denoised[j - 1][rows, parent]
            t, u = (filled(self.grid[i], x) for i in (j - 1, j))
            step = TRANSITIONS[self.params.variance]
            mean, s = step.moments(self.problem, *above, t, u, noise)
            x = require_finite(mean + expand(s, x) * x, "rollouts", k)
        else:
            x = self.problem.started(x, self.grid)
        time = filled(self.grid[j], x)
        b = self.problem.flow.velocity(x, time)
        self.x[j][rows, k] = x
        self.denoised[j][rows, k] = self.problem.interpolant.denoiser(b, x, time)
        self.tree.add(j, rows, k, parent)
        self.evaluated += len(rows)

    def _rewards(self, new: Tensor, leaf: Tensor) -> Tensor:
        """Those of the leaves (trees,): evaluated where they are new, remembered elsewhere."""
        rows = self.tree.rows
        reward = self.tree.value[-1][rows, leaf]
        if bool(new.any()):
            reward[new] = self.problem.reward(self.leaves[rows[new], leaf[new]]).double()
        return reward
