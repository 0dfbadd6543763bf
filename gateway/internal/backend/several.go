package backend

import (
	"errors"
	"strings"

	"google.golang.org/grpc/resolver"
)

// several is the resolver of targets such as `ipv4:///10.0.0.1:7401,10.0.0.2:7401`: replicas that no name stands for. The
// services' own channels know the scheme by themselves; gRPC for Go does not.
type several struct{}

func init() { resolver.Register(several{}) }

func (several) Scheme() string { return "ipv4" }

func (several) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	state := resolver.State{}
	for address := range strings.SplitSeq(target.Endpoint(), ",") {
		if address != "" {
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
		}
	}
	if len(state.Endpoints) == 0 {
		return nil, errors.New("it names no address; write ipv4:///HOST:PORT,HOST:PORT")
	}
	return fixed{}, conn.UpdateState(state)
}

// fixed has nothing to look up again.
type fixed struct{}

func (fixed) ResolveNow(resolver.ResolveNowOptions) {}
func (fixed) Close()                                {}
