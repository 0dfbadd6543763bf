package server_test

import (
	"context"
	"strings"
	"testing"

	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	"murphey.dev/gateway/internal/settings"
)

func TestReplicasBehindOneTargetTakeTurns(t *testing.T) {
	first, second := startMesh(t), startMesh(t)
	counts := map[*mesh]int{}
	answered := make(chan *mesh, 1)
	for _, one := range []*mesh{first, second} {
		one.orchestrator.answer = func(context.Context, *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
			answered <- one
			return &orchestratorv1.AnswerResponse{}, nil
		}
	}
	targets := map[string]string{}
	for name, target := range first.targets {
		targets[name] = "ipv4:///" + target + "," + second.targets[name]
	}
	gateway := startGateway(t, first, func(s *settings.Settings) { s.Targets = targets })
	for range 200 {
		if response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader("{}")); response.StatusCode != 200 {
			t.Fatalf("got %d", response.StatusCode)
		}
		counts[<-answered]++
		if counts[first] > 0 && counts[second] > 0 {
			return
		}
	}
	t.Errorf("only one of two was asked: %d and %d", counts[first], counts[second])
}
